"""Farrier fits Gunicorn and NGINX to the host they run on, and writes the Ansible role that puts them there."""
