"""Emulators of OpenAI, Twilio and Horizon: HTTP servers for tests and the demonstration."""
