"""Tests of the sandbox: is the synthetic Primero like a real one, and are its cases like real ones in shape?"""
