# ruff: noqa: F401
"""A training run for the standard library's archive: modules that many programs import.

`cds dump --profile` groups the objects that this run writes to.  The choice of modules
only affects how many pages a program reads and writes.
"""

import argparse
import ast
import asyncio
import base64
import collections
import concurrent.futures
import configparser
import contextlib
import copy
import csv
import dataclasses
import datetime
import decimal
import email.message
import enum
import functools
import hashlib
import http.client
import importlib.metadata
import inspect
import json
import logging.config
import multiprocessing
import pathlib
import pickle
import random
import shutil
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import traceback
import typing
import unittest
import urllib.request
import uuid
import xml.etree.ElementTree
import zipfile
