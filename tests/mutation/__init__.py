"""Mutation tests: does a test fail when one expression of the code is changed?"""
