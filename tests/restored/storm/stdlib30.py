"""Thirty imports from the standard library."""

import argparse
import ast
import asyncio
import base64
import bz2
import calendar
import collections
import configparser
import csv
import datetime
import decimal
import difflib
import email.message
import fractions
import functools
import hashlib
import html.parser
import http.client
import inspect
import io
import ipaddress
import json
import logging.config
import multiprocessing
import pathlib
import sqlite3
import ssl
import subprocess
import tempfile
import unittest

IMPORTED = (
    argparse,
    base64,
    bz2,
    configparser,
    difflib,
    email,
    functools,
    html,
    http,
    inspect,
    logging,
    ssl,
    unittest,
)


async def _answer() -> int:
    await asyncio.sleep(0)
    return 42


def run() -> None:
    """Use some of the modules."""
    print(
        json.dumps({"half": str(fractions.Fraction(1, 2)), "sum": str(decimal.Decimal("0.1") * 3)})
    )
    print(
        ast.unparse(ast.parse("x = {1: [2, 3]}")),
        ipaddress.ip_address("::1").is_loopback,
        calendar.isleap(2024),
    )
    print(
        asyncio.run(_answer()), collections.Counter("abca"), datetime.date(2024, 2, 29).isoformat()
    )
    print(
        hashlib.sha256(b"x").hexdigest()[:16], list(csv.reader(io.StringIO("a,b"))), len(IMPORTED)
    )
    with sqlite3.connect(":memory:") as database:
        print(database.execute("select 1 + 1").fetchone())
    print(subprocess.run(["echo", "child"], capture_output=True, check=True).stdout)
    with tempfile.TemporaryDirectory() as directory:
        print(list(pathlib.Path(directory).iterdir()), multiprocessing.current_process().name)
