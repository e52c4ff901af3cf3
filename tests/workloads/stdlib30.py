"""Thirty imports from the standard library, as a larger program has them."""

import argparse, ast, asyncio, base64, bz2, calendar, collections, configparser, csv, datetime
import decimal, difflib, email.message, fractions, functools, hashlib, html.parser, http.client, inspect, ipaddress
import json, logging.config, multiprocessing, pathlib, pdb, sqlite3, ssl, subprocess, tempfile, unittest

print(json.dumps({"half": str(fractions.Fraction(1, 2)), "sum": str(decimal.Decimal("0.1") * 3)}))
print(ast.unparse(ast.parse("x = {1: [2, 3]}")), ipaddress.ip_address("::1").is_loopback, calendar.isleap(2024))
