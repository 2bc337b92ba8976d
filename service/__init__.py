"""Horizon WhatsApp Bots: a self-hosted WhatsApp assistant platform for many clients."""

__version__ = "0.1.0"
