"""Farrier sizes Gunicorn and NGINX for the hosts they run on, and writes the Ansible role that deploys them."""
