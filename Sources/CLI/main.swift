import ArgumentParser
import Server
