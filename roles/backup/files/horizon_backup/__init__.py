"""Backups of a host: taking them, putting them back, trying them out. Standard library only.

Managed by Ansible: horizonai-bots. `python3 -m horizon_backup run|snapshots|restore|drill`, as root.
"""
