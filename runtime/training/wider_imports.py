# ruff: noqa: F401
"""A second training run, see imports.py: more modules, which some programs import.

Objects that both runs write to come first.  So the objects of only these modules are
not among the objects that nearly every program needs.
"""

import _strptime
import calendar
import cmd
import code
import concurrent.futures.thread
import ctypes.util
import difflib
import doctest
import email.header
import email.mime.base
import email.mime.multipart
import email.mime.text
import email.policy
import encodings.idna
import filecmp
import fileinput
import fractions
import getpass
import glob
import graphlib
import gzip
import hmac
import html.parser
import http.cookiejar
import http.cookies
import http.server
import imaplib
import importlib.resources.readers
import mimetypes
import multiprocessing.managers
import multiprocessing.pool
import multiprocessing.shared_memory
import netrc
import numbers
import optparse
import os
import pdb
import pkgutil
import platform
import pprint
import py_compile
import runpy
import sched
import secrets
import shlex
import smtplib
import socketserver
import statistics
import string
import stringprep
import sysconfig
import tarfile
import timeit
import unittest.mock
import wsgiref.simple_server
import xml.dom.minidom
import xml.sax
import zipapp
import zoneinfo

runpy.run_path(os.path.join(os.path.dirname(__file__), "imports.py"))
