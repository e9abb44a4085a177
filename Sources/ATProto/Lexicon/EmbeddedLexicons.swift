// swift-format-ignore-file
/// Written by tools/make-lexicons: the documents of Lexicon/documents, byte for byte. Change those, and run the tool.
package enum EmbeddedLexicons {
    package static let documents: [(id: String, text: String)] = [
("app.bsky.embed.defs", #"""
{
  "lexicon": 1,
  "id": "app.bsky.embed.defs",
  "defs": {
    "aspectRatio": {
      "type": "object",
      "description": "The shape of a picture: the ratio counts, not the size.",
      "required": [
        "width",
        "height"
      ],
      "properties": {
        "width": {
          "type": "integer",
          "minimum": 1
        },
        "height": {
          "type": "integer",
          "minimum": 1
        }
      }
    }
  }
}

"""#),
("app.bsky.embed.external", #"""
{
  "lexicon": 1,
  "id": "app.bsky.embed.external",
  "defs": {
    "main": {
      "type": "object",
      "description": "A link shown as a card.",
      "required": [
        "external"
      ],
      "properties": {
        "external": {
          "type": "ref",
          "ref": "#external"
        }
      }
    },
    "external": {
      "type": "object",
      "required": [
        "uri",
        "title",
        "description"
      ],
      "properties": {
        "uri": {
          "type": "string",
          "format": "uri"
        },
        "title": {
          "type": "string"
        },
        "description": {
          "type": "string"
        },
        "thumb": {
          "type": "blob",
          "accept": [
            "image/*"
          ],
          "maxSize": 1000000,
          "description": "A small picture."
        },
        "associatedRefs": {
          "type": "array",
          "items": {
            "type": "ref",
            "ref": "com.atproto.repo.strongRef"
          },
          "description": "The records that the linked page was made from."
        }
      }
    }
  }
}

"""#),
("app.bsky.embed.images", #"""
{
  "lexicon": 1,
  "id": "app.bsky.embed.images",
  "description": "Pictures in a post.",
  "defs": {
    "main": {
      "type": "object",
      "required": [
        "images"
      ],
      "properties": {
        "images": {
          "type": "array",
          "items": {
            "type": "ref",
            "ref": "#image"
          },
          "maxLength": 4
        }
      }
    },
    "image": {
      "type": "object",
      "required": [
        "image",
        "alt"
      ],
      "properties": {
        "image": {
          "type": "blob",
          "accept": [
            "image/*"
          ],
          "maxSize": 2000000,
          "description": "The picture."
        },
        "alt": {
          "type": "string",
          "description": "What it shows, for those who do not see it."
        },
        "aspectRatio": {
          "type": "ref",
          "ref": "app.bsky.embed.defs#aspectRatio"
        }
      }
    }
  }
}

"""#),
("app.bsky.embed.record", #"""
{
  "lexicon": 1,
  "id": "app.bsky.embed.record",
  "description": "A record in a post, as in a quotation.",
  "defs": {
    "main": {
      "type": "object",
      "required": [
        "record"
      ],
      "properties": {
        "record": {
          "type": "ref",
          "ref": "com.atproto.repo.strongRef"
        }
      }
    }
  }
}

"""#),
("app.bsky.embed.recordWithMedia", #"""
{
  "lexicon": 1,
  "id": "app.bsky.embed.recordWithMedia",
  "description": "A record in a post beside pictures, a video or a link.",
  "defs": {
    "main": {
      "type": "object",
      "required": [
        "record",
        "media"
      ],
      "properties": {
        "record": {
          "type": "ref",
          "ref": "app.bsky.embed.record"
        },
        "media": {
          "type": "union",
          "refs": [
            "app.bsky.embed.images",
            "app.bsky.embed.video",
            "app.bsky.embed.external"
          ]
        }
      }
    }
  }
}

"""#),
("app.bsky.embed.video", #"""
{
  "lexicon": 1,
  "id": "app.bsky.embed.video",
  "description": "A video in a post.",
  "defs": {
    "main": {
      "type": "object",
      "required": [
        "video"
      ],
      "properties": {
        "video": {
          "type": "blob",
          "accept": [
            "video/mp4"
          ],
          "maxSize": 300000000,
          "description": "The video."
        },
        "captions": {
          "type": "array",
          "items": {
            "type": "ref",
            "ref": "#caption"
          },
          "maxLength": 20
        },
        "alt": {
          "type": "string",
          "description": "What it shows, for those who do not see it."
        },
        "aspectRatio": {
          "type": "ref",
          "ref": "app.bsky.embed.defs#aspectRatio"
        },
        "presentation": {
          "type": "string",
          "knownValues": [
            "default",
            "gif"
          ],
          "description": "How to play it."
        }
      }
    },
    "caption": {
      "type": "object",
      "required": [
        "lang",
        "file"
      ],
      "properties": {
        "lang": {
          "type": "string",
          "format": "language"
        },
        "file": {
          "type": "blob",
          "accept": [
            "text/vtt"
          ],
          "maxSize": 20000,
          "description": "Subtitles in WebVTT."
        }
      }
    }
  }
}

"""#),
("app.bsky.richtext.facet", #"""
{
  "lexicon": 1,
  "id": "app.bsky.richtext.facet",
  "defs": {
    "main": {
      "type": "object",
      "description": "What a stretch of text means.",
      "required": [
        "index",
        "features"
      ],
      "properties": {
        "index": {
          "type": "ref",
          "ref": "#byteSlice"
        },
        "features": {
          "type": "array",
          "items": {
            "type": "union",
            "refs": [
              "#mention",
              "#link",
              "#tag"
            ]
          }
        }
      }
    },
    "mention": {
      "type": "object",
      "description": "It names an account; the text is usually its handle behind an @.",
      "required": [
        "did"
      ],
      "properties": {
        "did": {
          "type": "string",
          "format": "did"
        }
      }
    },
    "link": {
      "type": "object",
      "description": "It leads to a page; the text may be a shortened form of the address.",
      "required": [
        "uri"
      ],
      "properties": {
        "uri": {
          "type": "string",
          "format": "uri"
        }
      }
    },
    "tag": {
      "type": "object",
      "description": "It is a hashtag; the # of the text is left out here.",
      "required": [
        "tag"
      ],
      "properties": {
        "tag": {
          "type": "string",
          "maxLength": 640,
          "maxGraphemes": 64
        }
      }
    },
    "byteSlice": {
      "type": "object",
      "description": "A stretch of text, counted in bytes of its UTF-8 from 0.",
      "required": [
        "byteStart",
        "byteEnd"
      ],
      "properties": {
        "byteStart": {
          "type": "integer",
          "minimum": 0,
          "description": "Of the first byte."
        },
        "byteEnd": {
          "type": "integer",
          "minimum": 0,
          "description": "Behind the last byte."
        }
      }
    }
  }
}

"""#),
("com.atproto.label.defs", #"""
{
  "lexicon": 1,
  "id": "com.atproto.label.defs",
  "description": "Labels: what people and services say about content, and here what an author says about their own.",
  "defs": {
    "label": {
      "type": "object",
      "description": "One label.",
      "required": [
        "src",
        "uri",
        "val",
        "cts"
      ],
      "properties": {
        "ver": {
          "type": "integer",
          "description": "The version of the form, 1."
        },
        "src": {
          "type": "string",
          "format": "did",
          "description": "Who says it."
        },
        "uri": {
          "type": "string",
          "format": "uri",
          "description": "About what."
        },
        "cid": {
          "type": "string",
          "format": "cid",
          "description": "About which version of it."
        },
        "val": {
          "type": "string",
          "maxLength": 128,
          "description": "The word of the label."
        },
        "neg": {
          "type": "boolean",
          "description": "True takes an earlier label back."
        },
        "cts": {
          "type": "string",
          "format": "datetime",
          "description": "When it was said."
        },
        "exp": {
          "type": "string",
          "format": "datetime",
          "description": "Until when it holds."
        },
        "sig": {
          "type": "bytes",
          "description": "A signature over the rest in DAG-CBOR."
        }
      }
    },
    "selfLabels": {
      "type": "object",
      "description": "The labels that an author puts on their own record.",
      "required": [
        "values"
      ],
      "properties": {
        "values": {
          "type": "array",
          "items": {
            "type": "ref",
            "ref": "#selfLabel"
          },
          "maxLength": 10
        }
      }
    },
    "selfLabel": {
      "type": "object",
      "description": "One of them.",
      "required": [
        "val"
      ],
      "properties": {
        "val": {
          "type": "string",
          "maxLength": 128,
          "description": "The word of the label."
        }
      }
    },
    "labelValueDefinition": {
      "type": "object",
      "description": "What a labeler means by a word.",
      "required": [
        "identifier",
        "severity",
        "blurs",
        "locales"
      ],
      "properties": {
        "identifier": {
          "type": "string",
          "maxLength": 100,
          "maxGraphemes": 100,
          "description": "The word that is defined."
        },
        "severity": {
          "type": "string",
          "knownValues": [
            "inform",
            "alert",
            "none"
          ],
          "description": "How it is shown."
        },
        "blurs": {
          "type": "string",
          "knownValues": [
            "content",
            "media",
            "none"
          ],
          "description": "What it hides."
        },
        "defaultSetting": {
          "type": "string",
          "knownValues": [
            "ignore",
            "warn",
            "hide"
          ],
          "default": "warn",
          "description": "What happens where the reader chose nothing."
        },
        "adultOnly": {
          "type": "boolean",
          "description": "Whether the reader must allow adult content."
        },
        "locales": {
          "type": "array",
          "items": {
            "type": "ref",
            "ref": "#labelValueDefinitionStrings"
          }
        }
      }
    },
    "labelValueDefinitionStrings": {
      "type": "object",
      "description": "The words of one language for it.",
      "required": [
        "lang",
        "name",
        "description"
      ],
      "properties": {
        "lang": {
          "type": "string",
          "format": "language"
        },
        "name": {
          "type": "string",
          "maxGraphemes": 64,
          "maxLength": 640,
          "description": "A short name."
        },
        "description": {
          "type": "string",
          "maxGraphemes": 10000,
          "maxLength": 100000,
          "description": "What it means."
        }
      }
    },
    "labelValue": {
      "type": "string",
      "knownValues": [
        "!hide",
        "!warn",
        "!no-unauthenticated",
        "porn",
        "sexual",
        "nudity",
        "graphic-media",
        "bot"
      ],
      "description": "Words that every reader should know."
    }
  }
}

"""#),
("com.atproto.repo.applyWrites", #"""
{
  "lexicon": 1,
  "id": "com.atproto.repo.applyWrites",
  "defs": {
    "main": {
      "type": "procedure",
      "description": "Does several writes in one commit, all or none.",
      "input": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "repo",
            "writes"
          ],
          "properties": {
            "repo": {
              "type": "string",
              "format": "at-identifier",
              "description": "The account whose repo it is: its DID or handle."
            },
            "validate": {
              "type": "boolean",
              "description": "False leaves the lexicon out, true insists on one, unset uses one where it is known."
            },
            "writes": {
              "type": "array",
              "items": {
                "type": "union",
                "refs": [
                  "#create",
                  "#update",
                  "#delete"
                ],
                "closed": true
              },
              "description": "In the order in which they are done."
            },
            "swapCommit": {
              "type": "string",
              "format": "cid",
              "description": "The commit that the repo must be at for the write to happen."
            }
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [],
          "properties": {
            "commit": {
              "type": "ref",
              "ref": "com.atproto.repo.defs#commitMeta",
              "description": "The commit that the write made."
            },
            "results": {
              "type": "array",
              "items": {
                "type": "union",
                "refs": [
                  "#createResult",
                  "#updateResult",
                  "#deleteResult"
                ],
                "closed": true
              },
              "description": "One for each write."
            }
          }
        }
      },
      "errors": [
        {
          "name": "InvalidSwap",
          "description": "The repo is at another commit than swapCommit."
        }
      ]
    },
    "create": {
      "type": "object",
      "description": "Adds a record.",
      "required": [
        "collection",
        "value"
      ],
      "properties": {
        "collection": {
          "type": "string",
          "format": "nsid",
          "description": "The collection."
        },
        "rkey": {
          "type": "string",
          "format": "record-key",
          "maxLength": 512,
          "description": "The key; made by the server when it is missing."
        },
        "value": {
          "type": "unknown",
          "description": "The record, with its $type."
        }
      }
    },
    "update": {
      "type": "object",
      "description": "Replaces a record.",
      "required": [
        "collection",
        "rkey",
        "value"
      ],
      "properties": {
        "collection": {
          "type": "string",
          "format": "nsid",
          "description": "The collection."
        },
        "rkey": {
          "type": "string",
          "format": "record-key",
          "description": "The key of the record."
        },
        "value": {
          "type": "unknown",
          "description": "The record, with its $type."
        }
      }
    },
    "delete": {
      "type": "object",
      "description": "Takes a record out.",
      "required": [
        "collection",
        "rkey"
      ],
      "properties": {
        "collection": {
          "type": "string",
          "format": "nsid",
          "description": "The collection."
        },
        "rkey": {
          "type": "string",
          "format": "record-key",
          "description": "The key of the record."
        }
      }
    },
    "createResult": {
      "type": "object",
      "required": [
        "uri",
        "cid"
      ],
      "properties": {
        "uri": {
          "type": "string",
          "format": "at-uri"
        },
        "cid": {
          "type": "string",
          "format": "cid"
        },
        "validationStatus": {
          "type": "string",
          "knownValues": [
            "valid",
            "unknown"
          ],
          "description": "Whether the record was held against its lexicon."
        }
      }
    },
    "updateResult": {
      "type": "object",
      "required": [
        "uri",
        "cid"
      ],
      "properties": {
        "uri": {
          "type": "string",
          "format": "at-uri"
        },
        "cid": {
          "type": "string",
          "format": "cid"
        },
        "validationStatus": {
          "type": "string",
          "knownValues": [
            "valid",
            "unknown"
          ],
          "description": "Whether the record was held against its lexicon."
        }
      }
    },
    "deleteResult": {
      "type": "object",
      "required": [],
      "properties": {}
    }
  }
}

"""#),
("com.atproto.repo.createRecord", #"""
{
  "lexicon": 1,
  "id": "com.atproto.repo.createRecord",
  "defs": {
    "main": {
      "type": "procedure",
      "description": "Adds a record to a repo.",
      "input": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "repo",
            "collection",
            "record"
          ],
          "properties": {
            "repo": {
              "type": "string",
              "format": "at-identifier",
              "description": "The account whose repo it is: its DID or handle."
            },
            "collection": {
              "type": "string",
              "format": "nsid",
              "description": "The collection."
            },
            "rkey": {
              "type": "string",
              "format": "record-key",
              "maxLength": 512,
              "description": "The key; made by the server when it is missing."
            },
            "validate": {
              "type": "boolean",
              "description": "False leaves the lexicon out, true insists on one, unset uses one where it is known."
            },
            "record": {
              "type": "unknown",
              "description": "The record, with its $type."
            },
            "swapCommit": {
              "type": "string",
              "format": "cid",
              "description": "The commit that the repo must be at for the write to happen."
            }
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "uri",
            "cid"
          ],
          "properties": {
            "uri": {
              "type": "string",
              "format": "at-uri"
            },
            "cid": {
              "type": "string",
              "format": "cid"
            },
            "commit": {
              "type": "ref",
              "ref": "com.atproto.repo.defs#commitMeta",
              "description": "The commit that the write made."
            },
            "validationStatus": {
              "type": "string",
              "knownValues": [
                "valid",
                "unknown"
              ],
              "description": "Whether the record was held against its lexicon."
            }
          }
        }
      },
      "errors": [
        {
          "name": "InvalidSwap",
          "description": "The repo is at another commit than swapCommit."
        }
      ]
    }
  }
}

"""#),
("com.atproto.repo.defs", #"""
{
  "lexicon": 1,
  "id": "com.atproto.repo.defs",
  "defs": {
    "commitMeta": {
      "type": "object",
      "required": [
        "cid",
        "rev"
      ],
      "properties": {
        "cid": {
          "type": "string",
          "format": "cid",
          "description": "The commit."
        },
        "rev": {
          "type": "string",
          "format": "tid",
          "description": "Its revision."
        }
      }
    }
  }
}

"""#),
("com.atproto.repo.deleteRecord", #"""
{
  "lexicon": 1,
  "id": "com.atproto.repo.deleteRecord",
  "defs": {
    "main": {
      "type": "procedure",
      "description": "Takes a record out of a repo; one that is not there is no error.",
      "input": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "repo",
            "collection",
            "rkey"
          ],
          "properties": {
            "repo": {
              "type": "string",
              "format": "at-identifier",
              "description": "The account whose repo it is: its DID or handle."
            },
            "collection": {
              "type": "string",
              "format": "nsid",
              "description": "The collection."
            },
            "rkey": {
              "type": "string",
              "format": "record-key",
              "description": "The key of the record."
            },
            "swapRecord": {
              "type": "string",
              "format": "cid",
              "description": "The version that must be there."
            },
            "swapCommit": {
              "type": "string",
              "format": "cid",
              "description": "The commit that the repo must be at for the write to happen."
            }
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "properties": {
            "commit": {
              "type": "ref",
              "ref": "com.atproto.repo.defs#commitMeta",
              "description": "The commit that the write made."
            }
          }
        }
      },
      "errors": [
        {
          "name": "InvalidSwap",
          "description": "The record or the repo is at another version."
        }
      ]
    }
  }
}

"""#),
("com.atproto.repo.describeRepo", #"""
{
  "lexicon": 1,
  "id": "com.atproto.repo.describeRepo",
  "defs": {
    "main": {
      "type": "query",
      "description": "Tells whose repo it is and which collections it has.",
      "parameters": {
        "type": "params",
        "required": [
          "repo"
        ],
        "properties": {
          "repo": {
            "type": "string",
            "format": "at-identifier",
            "description": "The account whose repo it is: its DID or handle."
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "handle",
            "did",
            "didDoc",
            "collections",
            "handleIsCorrect"
          ],
          "properties": {
            "handle": {
              "type": "string",
              "format": "at-identifier",
              "description": "The handle of the account, or its DID where no handle is known."
            },
            "did": {
              "type": "string",
              "format": "did"
            },
            "didDoc": {
              "type": "unknown",
              "description": "The DID document."
            },
            "collections": {
              "type": "array",
              "items": {
                "type": "string",
                "format": "nsid"
              },
              "description": "Those with a record or more."
            },
            "handleIsCorrect": {
              "type": "boolean",
              "description": "Whether the handle leads back to the DID."
            }
          }
        }
      }
    }
  }
}

"""#),
("com.atproto.repo.getRecord", #"""
{
  "lexicon": 1,
  "id": "com.atproto.repo.getRecord",
  "defs": {
    "main": {
      "type": "query",
      "description": "Gives one record.",
      "parameters": {
        "type": "params",
        "required": [
          "repo",
          "collection",
          "rkey"
        ],
        "properties": {
          "repo": {
            "type": "string",
            "format": "at-identifier",
            "description": "The account whose repo it is: its DID or handle."
          },
          "collection": {
            "type": "string",
            "format": "nsid",
            "description": "The collection."
          },
          "rkey": {
            "type": "string",
            "format": "record-key",
            "description": "The key of the record."
          },
          "cid": {
            "type": "string",
            "format": "cid",
            "description": "The version that is wanted; any other counts as absent."
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "uri",
            "value"
          ],
          "properties": {
            "uri": {
              "type": "string",
              "format": "at-uri"
            },
            "cid": {
              "type": "string",
              "format": "cid"
            },
            "value": {
              "type": "unknown",
              "description": "The record."
            }
          }
        }
      },
      "errors": [
        {
          "name": "RecordNotFound",
          "description": "There is no such record for this caller."
        }
      ]
    }
  }
}

"""#),
("com.atproto.repo.listRecords", #"""
{
  "lexicon": 1,
  "id": "com.atproto.repo.listRecords",
  "defs": {
    "main": {
      "type": "query",
      "description": "Gives the records of a collection page by page, by default those with the highest keys first.",
      "parameters": {
        "type": "params",
        "required": [
          "repo",
          "collection"
        ],
        "properties": {
          "repo": {
            "type": "string",
            "format": "at-identifier",
            "description": "The account whose repo it is: its DID or handle."
          },
          "collection": {
            "type": "string",
            "format": "nsid",
            "description": "The collection."
          },
          "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": 100,
            "default": 50,
            "description": "The most that a page holds."
          },
          "cursor": {
            "type": "string",
            "description": "What the page before gave."
          },
          "reverse": {
            "type": "boolean",
            "description": "Lowest keys first."
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "records"
          ],
          "properties": {
            "cursor": {
              "type": "string",
              "description": "Asks for the next page; missing on the last."
            },
            "records": {
              "type": "array",
              "items": {
                "type": "ref",
                "ref": "#record"
              }
            }
          }
        }
      }
    },
    "record": {
      "type": "object",
      "required": [
        "uri",
        "cid",
        "value"
      ],
      "properties": {
        "uri": {
          "type": "string",
          "format": "at-uri"
        },
        "cid": {
          "type": "string",
          "format": "cid"
        },
        "value": {
          "type": "unknown",
          "description": "The record."
        }
      }
    }
  }
}

"""#),
("com.atproto.repo.putRecord", #"""
{
  "lexicon": 1,
  "id": "com.atproto.repo.putRecord",
  "defs": {
    "main": {
      "type": "procedure",
      "description": "Writes a record whether or not one is there.",
      "input": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "repo",
            "collection",
            "rkey",
            "record"
          ],
          "nullable": [
            "swapRecord"
          ],
          "properties": {
            "repo": {
              "type": "string",
              "format": "at-identifier",
              "description": "The account whose repo it is: its DID or handle."
            },
            "collection": {
              "type": "string",
              "format": "nsid",
              "description": "The collection."
            },
            "rkey": {
              "type": "string",
              "format": "record-key",
              "maxLength": 512,
              "description": "The key of the record."
            },
            "validate": {
              "type": "boolean",
              "description": "False leaves the lexicon out, true insists on one, unset uses one where it is known."
            },
            "record": {
              "type": "unknown",
              "description": "The record, with its $type."
            },
            "swapRecord": {
              "type": "string",
              "format": "cid",
              "description": "The version that must be there; null: that there must be none."
            },
            "swapCommit": {
              "type": "string",
              "format": "cid",
              "description": "The commit that the repo must be at for the write to happen."
            }
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "uri",
            "cid"
          ],
          "properties": {
            "uri": {
              "type": "string",
              "format": "at-uri"
            },
            "cid": {
              "type": "string",
              "format": "cid"
            },
            "commit": {
              "type": "ref",
              "ref": "com.atproto.repo.defs#commitMeta",
              "description": "The commit that the write made."
            },
            "validationStatus": {
              "type": "string",
              "knownValues": [
                "valid",
                "unknown"
              ],
              "description": "Whether the record was held against its lexicon."
            }
          }
        }
      },
      "errors": [
        {
          "name": "InvalidSwap",
          "description": "The record or the repo is at another version."
        }
      ]
    }
  }
}

"""#),
("com.atproto.repo.strongRef", #"""
{
  "lexicon": 1,
  "id": "com.atproto.repo.strongRef",
  "description": "A record in one of its versions.",
  "defs": {
    "main": {
      "type": "object",
      "required": [
        "uri",
        "cid"
      ],
      "properties": {
        "uri": {
          "type": "string",
          "format": "at-uri"
        },
        "cid": {
          "type": "string",
          "format": "cid"
        }
      }
    }
  }
}

"""#),
("com.atproto.sync.getLatestCommit", #"""
{
  "lexicon": 1,
  "id": "com.atproto.sync.getLatestCommit",
  "defs": {
    "main": {
      "type": "query",
      "description": "Names the current commit of a repo.",
      "parameters": {
        "type": "params",
        "required": [
          "did"
        ],
        "properties": {
          "did": {
            "type": "string",
            "format": "did",
            "description": "The account."
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "cid",
            "rev"
          ],
          "properties": {
            "cid": {
              "type": "string",
              "format": "cid",
              "description": "The commit."
            },
            "rev": {
              "type": "string",
              "format": "tid",
              "description": "Its revision."
            }
          }
        }
      },
      "errors": [
        {
          "name": "RepoNotFound"
        },
        {
          "name": "RepoTakendown"
        },
        {
          "name": "RepoSuspended"
        },
        {
          "name": "RepoDeactivated"
        }
      ]
    }
  }
}

"""#),
("com.atproto.sync.getRecord", #"""
{
  "lexicon": 1,
  "id": "com.atproto.sync.getRecord",
  "defs": {
    "main": {
      "type": "query",
      "description": "Proves that a record is in the current commit of a repo, or is not: the blocks on the way to it.",
      "parameters": {
        "type": "params",
        "required": [
          "did",
          "collection",
          "rkey"
        ],
        "properties": {
          "did": {
            "type": "string",
            "format": "did",
            "description": "The account."
          },
          "collection": {
            "type": "string",
            "format": "nsid",
            "description": "The collection."
          },
          "rkey": {
            "type": "string",
            "format": "record-key",
            "description": "The key of the record."
          }
        }
      },
      "output": {
        "encoding": "application/vnd.ipld.car"
      },
      "errors": [
        {
          "name": "RecordNotFound"
        },
        {
          "name": "RepoNotFound"
        },
        {
          "name": "RepoTakendown"
        },
        {
          "name": "RepoSuspended"
        },
        {
          "name": "RepoDeactivated"
        }
      ]
    }
  }
}

"""#),
("com.atproto.sync.getRepo", #"""
{
  "lexicon": 1,
  "id": "com.atproto.sync.getRepo",
  "defs": {
    "main": {
      "type": "query",
      "description": "Exports the whole repo of an account.",
      "parameters": {
        "type": "params",
        "required": [
          "did"
        ],
        "properties": {
          "did": {
            "type": "string",
            "format": "did",
            "description": "The account."
          },
          "since": {
            "type": "string",
            "format": "tid",
            "description": "A revision that the caller has; only blocks that are newer are sent."
          }
        }
      },
      "output": {
        "encoding": "application/vnd.ipld.car"
      },
      "errors": [
        {
          "name": "RepoNotFound"
        },
        {
          "name": "RepoTakendown"
        },
        {
          "name": "RepoSuspended"
        },
        {
          "name": "RepoDeactivated"
        }
      ]
    }
  }
}

"""#),
("zone.stratos.actor.enrollment", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.actor.enrollment",
  "defs": {
    "main": {
      "type": "record",
      "description": "Says in a user's public repo which Stratos service keeps their private one, one record a service, so that an AppView finds it.",
      "key": "any",
      "record": {
        "type": "object",
        "required": [
          "service",
          "signingKey",
          "attestation",
          "createdAt"
        ],
        "properties": {
          "service": {
            "type": "string",
            "format": "uri",
            "description": "The URL under which the service answers."
          },
          "boundaries": {
            "type": "array",
            "items": {
              "type": "ref",
              "ref": "zone.stratos.boundary.defs#Domain"
            },
            "maxLength": 50,
            "description": "The boundaries that the user belongs to, qualified by the service."
          },
          "signingKey": {
            "type": "string",
            "description": "The did:key of the P-256 key with which the service signs this user's commits."
          },
          "attestation": {
            "type": "ref",
            "ref": "#serviceAttestation",
            "description": "The word of the service for the three above."
          },
          "createdAt": {
            "type": "string",
            "format": "datetime",
            "description": "When the user joined."
          }
        }
      }
    },
    "serviceAttestation": {
      "type": "object",
      "description": "A signature of the service over the DAG-CBOR map of the user's did, sorted boundaries and signingKey.",
      "required": [
        "sig",
        "signingKey"
      ],
      "properties": {
        "sig": {
          "type": "bytes",
          "description": "64 bytes: r and s, with s in the lower half."
        },
        "signingKey": {
          "type": "string",
          "description": "The did:key of the service's own key, which verifies the signature."
        }
      }
    }
  }
}

"""#),
("zone.stratos.admin.addBoundary", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.admin.addBoundary",
  "defs": {
    "main": {
      "type": "procedure",
      "description": "Grants a member one boundary more. For administrators.",
      "input": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "did",
            "boundary"
          ],
          "properties": {
            "did": {
              "type": "string",
              "format": "did",
              "description": "The account."
            },
            "boundary": {
              "type": "string",
              "maxLength": 253,
              "description": "Qualified by the service, as zone.stratos.server.listDomains lists it."
            }
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "did",
            "boundaries"
          ],
          "properties": {
            "did": {
              "type": "string",
              "format": "did",
              "description": "The account."
            },
            "boundaries": {
              "type": "array",
              "items": {
                "type": "string"
              },
              "description": "All that the member holds now, each qualified."
            }
          }
        }
      }
    }
  }
}

"""#),
("zone.stratos.admin.enroll", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.admin.enroll",
  "defs": {
    "main": {
      "type": "procedure",
      "description": "Makes an account a member. For administrators.",
      "input": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "did"
          ],
          "properties": {
            "did": {
              "type": "string",
              "format": "did",
              "description": "The account."
            },
            "boundaries": {
              "type": "array",
              "items": {
                "type": "string",
                "maxLength": 253,
                "description": "A boundary."
              },
              "maxLength": 256,
              "description": "What the member may read and write; left out, what the service grants new members."
            },
            "pds": {
              "type": "string",
              "format": "uri",
              "description": "The account's own server."
            }
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "did",
            "enrolled"
          ],
          "properties": {
            "did": {
              "type": "string",
              "format": "did",
              "description": "The account."
            },
            "enrolled": {
              "type": "boolean",
              "description": "True."
            }
          }
        }
      }
    }
  }
}

"""#),
("zone.stratos.admin.getRecord", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.admin.getRecord",
  "defs": {
    "main": {
      "type": "procedure",
      "description": "Gives an administrator one record, and its owner a receipt that zone.stratos.audit.listReads lists.",
      "input": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "uri",
            "reason"
          ],
          "properties": {
            "uri": {
              "type": "string",
              "format": "at-uri",
              "description": "The record."
            },
            "reason": {
              "type": "string",
              "minLength": 1,
              "maxLength": 2000,
              "description": "Why; the owner reads it."
            }
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "uri",
            "cid",
            "value"
          ],
          "properties": {
            "uri": {
              "type": "string",
              "format": "at-uri"
            },
            "cid": {
              "type": "string",
              "format": "cid"
            },
            "value": {
              "type": "unknown",
              "description": "The record."
            }
          }
        }
      }
    }
  }
}

"""#),
("zone.stratos.admin.listEnrollments", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.admin.listEnrollments",
  "defs": {
    "main": {
      "type": "query",
      "description": "Lists the members in order of their DIDs. For administrators.",
      "parameters": {
        "type": "params",
        "properties": {
          "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": 500,
            "default": 100
          },
          "cursor": {
            "type": "string",
            "description": "Where the page before ended."
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "enrollments"
          ],
          "properties": {
            "enrollments": {
              "type": "array",
              "items": {
                "type": "unknown",
                "description": "As zone.stratos.enrollment.status answers."
              }
            },
            "cursor": {
              "type": "string",
              "description": "Absent on the last page."
            }
          }
        }
      }
    }
  }
}

"""#),
("zone.stratos.admin.removeBoundary", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.admin.removeBoundary",
  "defs": {
    "main": {
      "type": "procedure",
      "description": "Takes a boundary from a member, in force with the answer. For administrators.",
      "input": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "did",
            "boundary"
          ],
          "properties": {
            "did": {
              "type": "string",
              "format": "did",
              "description": "The account."
            },
            "boundary": {
              "type": "string",
              "maxLength": 253,
              "description": "Qualified by the service, as zone.stratos.server.listDomains lists it."
            }
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "did",
            "boundaries"
          ],
          "properties": {
            "did": {
              "type": "string",
              "format": "did",
              "description": "The account."
            },
            "boundaries": {
              "type": "array",
              "items": {
                "type": "string"
              },
              "description": "All that the member holds now, each qualified."
            }
          }
        }
      }
    }
  }
}

"""#),
("zone.stratos.admin.setBoundaries", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.admin.setBoundaries",
  "defs": {
    "main": {
      "type": "procedure",
      "description": "Replaces the boundaries of a member, in force with the answer. For administrators.",
      "input": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "did",
            "boundaries"
          ],
          "properties": {
            "did": {
              "type": "string",
              "format": "did",
              "description": "The account."
            },
            "boundaries": {
              "type": "array",
              "items": {
                "type": "string",
                "maxLength": 253,
                "description": "A boundary."
              },
              "maxLength": 256,
              "description": "All that the member holds from now on; may be empty."
            }
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "did",
            "boundaries"
          ],
          "properties": {
            "did": {
              "type": "string",
              "format": "did",
              "description": "The account."
            },
            "boundaries": {
              "type": "array",
              "items": {
                "type": "string"
              },
              "description": "All that the member holds now, each qualified."
            }
          }
        }
      }
    }
  }
}

"""#),
("zone.stratos.admin.unenroll", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.admin.unenroll",
  "defs": {
    "main": {
      "type": "procedure",
      "description": "Ends a membership. For administrators.",
      "input": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "did"
          ],
          "properties": {
            "did": {
              "type": "string",
              "format": "did",
              "description": "The account."
            },
            "keepContent": {
              "type": "boolean",
              "description": "Whether the records stay, unserved, for a return; else they are erased, also those that were kept before."
            },
            "reason": {
              "type": "string",
              "maxLength": 2000,
              "description": "Why; it stands in the account's log."
            }
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "did",
            "unenrolled",
            "content"
          ],
          "properties": {
            "did": {
              "type": "string",
              "format": "did",
              "description": "The account."
            },
            "unenrolled": {
              "type": "boolean",
              "description": "True."
            },
            "content": {
              "type": "string",
              "knownValues": [
                "kept",
                "erase"
              ],
              "description": "What became of the records."
            }
          }
        }
      },
      "errors": [
        {
          "name": "NotFound",
          "description": "The account is no member."
        }
      ]
    }
  }
}

"""#),
("zone.stratos.audit.listReads", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.audit.listReads",
  "defs": {
    "main": {
      "type": "query",
      "description": "Lists what administrators read of the caller's records, newest first.",
      "parameters": {
        "type": "params",
        "properties": {
          "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": 100,
            "default": 50
          },
          "cursor": {
            "type": "string",
            "description": "Where the page before ended."
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "reads"
          ],
          "properties": {
            "reads": {
              "type": "array",
              "items": {
                "type": "ref",
                "ref": "#read"
              }
            },
            "cursor": {
              "type": "string",
              "description": "Absent on the last page."
            }
          }
        }
      }
    },
    "read": {
      "type": "object",
      "description": "That an administrator read a record.",
      "required": [
        "time",
        "admin",
        "uri",
        "reason"
      ],
      "properties": {
        "time": {
          "type": "string",
          "format": "datetime"
        },
        "admin": {
          "type": "string",
          "description": "The name that the administrator gave."
        },
        "uri": {
          "type": "string",
          "format": "at-uri"
        },
        "reason": {
          "type": "string",
          "description": "Why, in the administrator's words."
        }
      }
    }
  }
}

"""#),
("zone.stratos.boundary.defs", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.boundary.defs",
  "description": "Who may see a record.",
  "defs": {
    "Domain": {
      "type": "object",
      "description": "One boundary: a named audience of one service.",
      "required": [
        "value"
      ],
      "properties": {
        "value": {
          "type": "string",
          "maxLength": 253,
          "description": "The service's DID, a slash and the boundary's name: did:web:stratos.example.com/engineering."
        }
      }
    },
    "Domains": {
      "type": "object",
      "description": "The boundaries of a record.",
      "required": [
        "values"
      ],
      "properties": {
        "values": {
          "type": "array",
          "items": {
            "type": "ref",
            "ref": "#Domain"
          },
          "maxLength": 10,
          "description": "Sharing one of them is enough to see the record."
        }
      }
    }
  }
}

"""#),
("zone.stratos.defs", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.defs",
  "description": "What a placeholder in a public repo says about the private record it stands for.",
  "defs": {
    "source": {
      "type": "object",
      "description": "Makes a record a placeholder and names where the full one is to be had.",
      "required": [
        "vary",
        "subject",
        "service"
      ],
      "properties": {
        "vary": {
          "type": "string",
          "knownValues": [
            "authenticated",
            "unauthenticated"
          ],
          "maxLength": 128,
          "description": "For whom the full record may differ from the placeholder; authenticated: for whoever proves who they are."
        },
        "subject": {
          "type": "ref",
          "ref": "#subjectRef",
          "description": "The full record."
        },
        "service": {
          "type": "string",
          "maxLength": 2176,
          "description": "The DID of the service that holds the full record, with the fragment of its entry in the DID document where there are several."
        }
      }
    },
    "subjectRef": {
      "type": "object",
      "description": "A record in one of its versions.",
      "required": [
        "uri",
        "cid"
      ],
      "properties": {
        "uri": {
          "type": "string",
          "format": "at-uri",
          "description": "The address of the full record, the same as that of the placeholder."
        },
        "cid": {
          "type": "string",
          "format": "cid",
          "description": "The hash of the full record, to check what the service answers."
        }
      }
    }
  }
}

"""#),
("zone.stratos.enrollment.status", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.enrollment.status",
  "defs": {
    "main": {
      "type": "query",
      "description": "Tells whether an account is enrolled here.",
      "parameters": {
        "type": "params",
        "required": [
          "did"
        ],
        "properties": {
          "did": {
            "type": "string",
            "format": "did",
            "description": "The account."
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "did",
            "enrolled"
          ],
          "properties": {
            "did": {
              "type": "string",
              "format": "did",
              "description": "The account that was asked about."
            },
            "enrolled": {
              "type": "boolean",
              "description": "True when the service keeps, or has kept, a private repo for it."
            },
            "enrolledAt": {
              "type": "string",
              "format": "datetime",
              "description": "Since when."
            },
            "active": {
              "type": "boolean",
              "description": "True while the enrollment stands."
            },
            "signingKey": {
              "type": "string",
              "description": "The did:key that signs the account's commits."
            },
            "enrollmentRkey": {
              "type": "string",
              "description": "The key of the enrollment record in the account's public repo."
            },
            "boundaries": {
              "type": "array",
              "items": {
                "type": "ref",
                "ref": "zone.stratos.boundary.defs#Domain"
              },
              "description": "The boundaries of the account; for callers who have proved who they are."
            },
            "attestation": {
              "type": "ref",
              "ref": "zone.stratos.actor.enrollment#serviceAttestation",
              "description": "Made for this answer; for callers who have proved who they are."
            }
          }
        }
      }
    }
  }
}

"""#),
("zone.stratos.enrollment.unenroll", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.enrollment.unenroll",
  "defs": {
    "main": {
      "type": "procedure",
      "description": "Leaves the service: ends the session and takes the enrollment record out of the public repo.",
      "input": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "properties": {}
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "properties": {
            "success": {
              "type": "boolean",
              "description": "Always true; a failure is an error."
            }
          }
        }
      },
      "errors": [
        {
          "name": "NotEnrolled"
        },
        {
          "name": "AuthRequired"
        }
      ]
    }
  }
}

"""#),
("zone.stratos.feed.post", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.feed.post",
  "defs": {
    "main": {
      "type": "record",
      "description": "A post for the members of its boundaries. In the author's public repo only a placeholder stands, with source and createdAt.",
      "key": "tid",
      "record": {
        "type": "object",
        "required": [
          "createdAt"
        ],
        "properties": {
          "source": {
            "type": "ref",
            "ref": "zone.stratos.defs#source",
            "description": "In a placeholder: where the post is to be had."
          },
          "text": {
            "type": "string",
            "maxLength": 3000,
            "maxGraphemes": 300,
            "description": "What the post says; empty when its embed says it all, missing in a placeholder."
          },
          "boundary": {
            "type": "union",
            "refs": [
              "zone.stratos.boundary.defs#Domains"
            ],
            "description": "Who may see the post; missing in a placeholder."
          },
          "facets": {
            "type": "array",
            "items": {
              "type": "ref",
              "ref": "app.bsky.richtext.facet"
            },
            "description": "Mentions, links and hashtags within the text."
          },
          "reply": {
            "type": "ref",
            "ref": "#replyRef",
            "description": "What the post answers."
          },
          "embed": {
            "type": "union",
            "refs": [
              "app.bsky.embed.images",
              "app.bsky.embed.video",
              "app.bsky.embed.external",
              "app.bsky.embed.record",
              "app.bsky.embed.recordWithMedia"
            ],
            "description": "What the post shows beside its text."
          },
          "langs": {
            "type": "array",
            "items": {
              "type": "string",
              "format": "language"
            },
            "maxLength": 3,
            "description": "The languages of the text."
          },
          "labels": {
            "type": "union",
            "refs": [
              "com.atproto.label.defs#selfLabels"
            ],
            "description": "The author's own warnings."
          },
          "tags": {
            "type": "array",
            "items": {
              "type": "string",
              "maxLength": 640,
              "maxGraphemes": 64
            },
            "maxLength": 8,
            "description": "Hashtags that are not in the text."
          },
          "createdAt": {
            "type": "string",
            "format": "datetime",
            "description": "When the author says the post was written."
          }
        }
      }
    },
    "replyRef": {
      "type": "object",
      "description": "Both name Stratos posts.",
      "required": [
        "root",
        "parent"
      ],
      "properties": {
        "root": {
          "type": "ref",
          "ref": "com.atproto.repo.strongRef",
          "description": "The post that began the thread."
        },
        "parent": {
          "type": "ref",
          "ref": "com.atproto.repo.strongRef",
          "description": "The post that is answered."
        }
      }
    }
  }
}

"""#),
("zone.stratos.identity.resolveEnrollments", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.identity.resolveEnrollments",
  "defs": {
    "main": {
      "type": "query",
      "description": "Gives the boundaries that an account belongs to.",
      "parameters": {
        "type": "params",
        "required": [
          "did"
        ],
        "properties": {
          "did": {
            "type": "string",
            "format": "did",
            "description": "The account."
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "did",
            "enrolled",
            "boundaries"
          ],
          "properties": {
            "did": {
              "type": "string",
              "format": "did",
              "description": "The account that was asked about."
            },
            "enrolled": {
              "type": "boolean",
              "description": "Whether it is enrolled here."
            },
            "boundaries": {
              "type": "array",
              "items": {
                "type": "string"
              },
              "description": "Qualified by the service; empty when the account is not enrolled."
            }
          }
        }
      }
    }
  }
}

"""#),
("zone.stratos.repo.hydrateRecord", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.repo.hydrateRecord",
  "defs": {
    "main": {
      "type": "query",
      "description": "Gives the full record behind a placeholder, if the caller may see it.",
      "parameters": {
        "type": "params",
        "required": [
          "uri"
        ],
        "properties": {
          "uri": {
            "type": "string",
            "format": "at-uri",
            "description": "The record."
          },
          "cid": {
            "type": "string",
            "format": "cid",
            "description": "The version that is wanted; any other counts as absent."
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "uri",
            "cid",
            "value"
          ],
          "properties": {
            "uri": {
              "type": "string",
              "format": "at-uri"
            },
            "cid": {
              "type": "string",
              "format": "cid"
            },
            "value": {
              "type": "unknown",
              "description": "The record."
            }
          }
        }
      },
      "errors": [
        {
          "name": "RecordNotFound",
          "description": "There is no such record for this caller."
        },
        {
          "name": "RecordBlocked",
          "description": "The record shares no boundary with the caller."
        }
      ]
    }
  }
}

"""#),
("zone.stratos.repo.hydrateRecords", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.repo.hydrateRecords",
  "defs": {
    "main": {
      "type": "procedure",
      "description": "Gives the full records behind many placeholders, those that the caller may see.",
      "input": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "uris"
          ],
          "properties": {
            "uris": {
              "type": "array",
              "items": {
                "type": "string",
                "format": "at-uri"
              },
              "maxLength": 100,
              "description": "The records."
            }
          }
        }
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "records",
            "notFound",
            "blocked"
          ],
          "properties": {
            "records": {
              "type": "array",
              "items": {
                "type": "ref",
                "ref": "#recordView"
              },
              "description": "Those that were found and may be seen."
            },
            "notFound": {
              "type": "array",
              "items": {
                "type": "string",
                "format": "at-uri"
              },
              "description": "Those that do not exist for this caller."
            },
            "blocked": {
              "type": "array",
              "items": {
                "type": "string",
                "format": "at-uri"
              },
              "description": "Those that exist but share no boundary with the caller, where the service tells."
            }
          }
        }
      }
    },
    "recordView": {
      "type": "object",
      "description": "One record that was found.",
      "required": [
        "uri",
        "cid",
        "value"
      ],
      "properties": {
        "uri": {
          "type": "string",
          "format": "at-uri"
        },
        "cid": {
          "type": "string",
          "format": "cid"
        },
        "value": {
          "type": "unknown",
          "description": "The record."
        }
      }
    }
  }
}

"""#),
("zone.stratos.repo.importRepo", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.repo.importRepo",
  "defs": {
    "main": {
      "type": "procedure",
      "description": "Takes in a repo that was exported elsewhere; its commit must name the caller's DID. Record CIDs are kept, the commit is made and signed anew.",
      "input": {
        "encoding": "application/vnd.ipld.car"
      },
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "imported"
          ],
          "properties": {
            "imported": {
              "type": "integer",
              "description": "How many records the repo now has."
            }
          }
        }
      },
      "errors": [
        {
          "name": "InvalidCar",
          "description": "The file is damaged, incomplete, or a block is not what its CID says."
        },
        {
          "name": "RepoAlreadyExists",
          "description": "The account has records here already."
        }
      ]
    }
  }
}

"""#),
("zone.stratos.server.listDomains", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.server.listDomains",
  "defs": {
    "main": {
      "type": "query",
      "description": "Lists the boundaries that this service offers.",
      "output": {
        "encoding": "application/json",
        "schema": {
          "type": "object",
          "required": [
            "domains"
          ],
          "properties": {
            "domains": {
              "type": "array",
              "items": {
                "type": "string"
              },
              "description": "Each qualified by the service."
            }
          }
        }
      }
    }
  }
}

"""#),
("zone.stratos.sync.getRepo", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.sync.getRepo",
  "defs": {
    "main": {
      "type": "query",
      "description": "Exports the whole repo of an account: commit, tree and records.",
      "parameters": {
        "type": "params",
        "required": [
          "did"
        ],
        "properties": {
          "did": {
            "type": "string",
            "format": "did",
            "description": "The account."
          },
          "since": {
            "type": "string",
            "format": "tid",
            "description": "A revision that the caller has; only blocks that are newer are sent."
          }
        }
      },
      "output": {
        "encoding": "application/vnd.ipld.car"
      },
      "errors": [
        {
          "name": "RepoNotFound",
          "description": "There is no such repo for this caller, or it has no commit yet."
        }
      ]
    }
  }
}

"""#),
("zone.stratos.sync.subscribeRecords", #"""
{
  "lexicon": 1,
  "id": "zone.stratos.sync.subscribeRecords",
  "defs": {
    "main": {
      "type": "subscription",
      "description": "With did, follows the records of one account; without, follows who joins and leaves the service.",
      "parameters": {
        "type": "params",
        "properties": {
          "did": {
            "type": "string",
            "format": "did",
            "description": "The account to follow."
          },
          "cursor": {
            "type": "integer",
            "description": "The number of the last message that was processed."
          },
          "domain": {
            "type": "string",
            "maxLength": 253,
            "description": "Sends only what has this boundary."
          },
          "syncToken": {
            "type": "string",
            "description": "A service-auth JWT, for callers that cannot set the Authorization header."
          }
        }
      },
      "message": {
        "schema": {
          "type": "union",
          "refs": [
            "#commit",
            "#enrollment",
            "#info"
          ]
        }
      },
      "errors": [
        {
          "name": "FutureCursor",
          "description": "The cursor is beyond the newest message."
        },
        {
          "name": "AuthRequired",
          "description": "The caller did not prove who they are."
        }
      ]
    },
    "commit": {
      "type": "object",
      "description": "One commit of the account.",
      "required": [
        "seq",
        "did",
        "time",
        "rev",
        "ops"
      ],
      "properties": {
        "seq": {
          "type": "integer",
          "description": "The number of this message."
        },
        "did": {
          "type": "string",
          "format": "did",
          "description": "The account."
        },
        "time": {
          "type": "string",
          "format": "datetime",
          "description": "When the commit was appended."
        },
        "rev": {
          "type": "string",
          "format": "tid",
          "description": "The revision that the repo now has."
        },
        "ops": {
          "type": "array",
          "items": {
            "type": "ref",
            "ref": "#recordOp"
          },
          "description": "All that the commit did, in its order."
        }
      }
    },
    "recordOp": {
      "type": "object",
      "description": "What a commit did to one record.",
      "required": [
        "action",
        "path"
      ],
      "properties": {
        "action": {
          "type": "string",
          "knownValues": [
            "create",
            "update",
            "delete"
          ],
          "maxLength": 32,
          "description": "What happened to the record."
        },
        "path": {
          "type": "string",
          "maxLength": 512,
          "description": "Collection, slash, record key."
        },
        "cid": {
          "type": "cid-link",
          "description": "The record, unless it was deleted."
        },
        "record": {
          "type": "unknown",
          "description": "Its content, unless it was deleted."
        }
      }
    },
    "info": {
      "type": "object",
      "description": "A notice about the stream itself.",
      "required": [
        "name"
      ],
      "properties": {
        "name": {
          "type": "string",
          "knownValues": [
            "OutdatedCursor"
          ],
          "maxLength": 128,
          "description": "Which notice."
        },
        "message": {
          "type": "string",
          "maxLength": 1024,
          "description": "More, for people."
        }
      }
    },
    "enrollment": {
      "type": "object",
      "description": "Someone joined, left, or changed boundaries.",
      "required": [
        "did",
        "action",
        "time"
      ],
      "properties": {
        "seq": {
          "type": "integer",
          "description": "The number of this message, to come back with as cursor."
        },
        "did": {
          "type": "string",
          "format": "did",
          "description": "The account."
        },
        "action": {
          "type": "string",
          "knownValues": [
            "enroll",
            "unenroll",
            "update"
          ],
          "maxLength": 32,
          "description": "What happened; update: the boundaries changed."
        },
        "service": {
          "type": "string",
          "format": "uri",
          "description": "The URL under which the service answers."
        },
        "boundaries": {
          "type": "array",
          "items": {
            "type": "string"
          },
          "description": "Those that the account now belongs to."
        },
        "time": {
          "type": "string",
          "format": "datetime",
          "description": "When it happened."
        }
      }
    }
  }
}

"""#),
    ]
}
