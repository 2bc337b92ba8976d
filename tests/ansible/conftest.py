"""The project's own module_utils, as Ansible offers them to modules on a host."""

from pathlib import Path

import ansible.module_utils

ROOT = Path(__file__).parents[2]
ansible.module_utils.__path__.append(str(ROOT / "ansible/module_utils"))
