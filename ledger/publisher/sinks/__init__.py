"""Sinks: one module for each transport, made to the protocol in `ledger.publisher.sink`."""
