#!/usr/bin/env python3
"""Walks the way by which people join, in a headless Chromium: opens a URL, signs in and decides on the devnet's pages, and says where
it ended. Talks to the browser over a pipe (DevTools protocol), so it needs nothing but Python. Prints one JSON object.

    tools/browse_joining.py URL --password PASSWORD [--deny] [--screenshots DIRECTORY] [--dark]
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile


class Browser:
    """One page of a browser of its own, with no profile and no past."""

    def __init__(self, program, profile, dark):
        to_browser, self.commands = os.pipe()
        self.events, from_browser = os.pipe()

        def hand_over():
            # The browser reads descriptor 3 and writes 4; copies that are out of the way first.
            reader, writer = os.dup(to_browser), os.dup(from_browser)
            os.dup2(reader, 3)
            os.dup2(writer, 4)

        flags = ["--blink-settings=preferredColorScheme=0"] if dark else []
        self.process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--hide-scrollbars", "--window-size=900,760", f"--user-data-dir={profile}",
             "--remote-debugging-pipe", *flags, "about:blank"],
            preexec_fn=hand_over, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.buffer, self.number, self.session = b"", 0, None
        self.requests, self.problems, self.loads = [], [], 0
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def receive(self):
        while b"\0" not in self.buffer:
            piece = os.read(self.events, 1 << 16)
            if not piece:
                raise RuntimeError("the browser has ended")
            self.buffer += piece
        message, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(message)
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append(parameters["entry"]["text"])
        elif method == "Page.loadEventFired":
            self.loads += 1
        return message

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def load(self, act):
        """Does what leads to another page, and waits until that has loaded."""
        before = self.loads
        act()
        while self.loads == before:
            self.receive()

    def run(self, script):
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def click(self, selector):
        self.load(lambda: self.run(f"document.querySelector({json.dumps(selector)}).click()"))

    def screenshot(self, path):
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(picture["data"]))

    def end(self):
        self.process.kill()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--password", required=True)
    parser.add_argument("--deny", action="store_true")
    parser.add_argument("--screenshots")
    parser.add_argument("--dark", action="store_true")
    arguments = parser.parse_args()
    program = shutil.which("chromium")
    if not program:
        sys.exit("there is no chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile, arguments.dark)
        try:
            pages = walk(browser, arguments)
        finally:
            browser.end()
    print(json.dumps({"pages": pages, "requests": browser.requests, "problems": browser.problems}))


def walk(browser, arguments):
    pages = []

    def look(name):
        if arguments.screenshots:
            browser.screenshot(os.path.join(arguments.screenshots, f"{name}.png"))
        pages.append(browser.run("""({
            url: location.href, title: document.title, heading: document.querySelector('h1')?.innerText ?? '',
            text: document.body.innerText, language: document.documentElement.lang,
            ground: getComputedStyle(document.body).backgroundColor, cookies: document.cookie,
            width: document.documentElement.scrollWidth <= document.documentElement.clientWidth,
        })"""))

    browser.load(lambda: browser.call("Page.navigate", url=arguments.url))
    look("1-sign-in")
    if not browser.run("document.querySelector('#sign-in') !== null"):
        return pages
    browser.run(f"document.querySelector('#password').value = {json.dumps(arguments.password)}")
    browser.click("#sign-in")
    look("2-consent")
    browser.click("#deny" if arguments.deny else "#accept")
    look("3-ended")
    return pages


main()
