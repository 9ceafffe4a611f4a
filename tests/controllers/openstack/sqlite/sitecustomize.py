"""Every Python program that has this directory in PYTHONPATH: a transaction of SQLite takes the write lock when it begins.

OpenStack's programs begin transactions with reads and write later. SQLite refuses that where another process has written
meanwhile, and what they retry is a deadlock of MySQL.
"""
import sqlite3


class Cursor(sqlite3.Cursor):
    def execute(self, statement, *rest):
        return super().execute("BEGIN IMMEDIATE" if statement == "BEGIN" else statement, *rest)


class Connection(sqlite3.Connection):
    def cursor(self, factory=Cursor):
        return super().cursor(factory)


original = sqlite3.connect


def connect(*words, **named):
    named.setdefault("factory", Connection)
    named["timeout"] = 60
    return original(*words, **named)


sqlite3.connect = sqlite3.dbapi2.connect = connect
