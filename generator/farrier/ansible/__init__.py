"""What Ansible runs, and what reads its answers."""
