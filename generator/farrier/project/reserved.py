"""Names already taken by hosts, systemd, the interpreter or the plan, by owner."""

BASE = (
    "root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc nobody adm tty disk kmem dialout "
    "fax voice cdrom floppy tape sudo audio dip operator src shadow utmp video sasl plugdev staff users nogroup"
)
"""Users and groups of Debian's base-passwd: /usr/share/base-passwd/passwd.master and group.master."""

SYSTEM = (
    "messagebus dbus input render sgx kvm crontab netdev ssh sshd polkitd polkit lpadmin scanner bluetooth wheel ssl-cert "
    "pulse-access tcpdump tss rdma uuidd syslog rsyslog systemd udev cron anacron atd getty autovt serial-getty "
    "container-getty console-getty user user-runtime-dir capsule session init initctl modprobe e2scrub ifup networking "
    "network emergency rescue basic reboot halt poweroff kexec default sockets timers paths slices machine machines system "
    "journal resolved apparmor selinux auditd nftables iptables ufw firewalld snapd snap multipathd iscsid lvm2 mdadm "
    "quotaon fstrim logrotate unattended-upgrades apt dpkg debconf packagekit cloud-init lxc lxd incus libvirt qemu "
    "ubuntu debian admin ansible vagrant centos fedora"
)
"""Users, groups and units of systemd, udev, D-Bus, OpenSSH and other parts of a Debian or Ubuntu host, from their packages'
sysusers.d, postinst and unit files."""

DAEMONS = (
    "nginx apache apache2 httpd lighttpd caddy haproxy varnish traefik squid postgres postgresql pgbouncer mysql mysqld "
    "mariadb redis redis-server valkey memcache memcached mongodb mongod rabbitmq elasticsearch opensearch logstash kibana "
    "solr influxdb influx grafana loki tempo prometheus node-exporter alertmanager telegraf zabbix nagios icinga munin collectd "
    "statsd bind named unbound dnsmasq postfix dovecot exim opendkim rspamd clamav amavis spamd docker dockerd containerd "
    "podman crio kubelet etcd consul vault nomad minio ntp ntpd ntpsec chrony avahi cups cupsd pulse pipewire rtkit colord "
    "gdm lightdm sddm geoclue saned usbmux tor jenkins gitlab gitea git ftp proftpd vsftpd samba smbd nfs rpc statd rpcbind "
    "openldap slapd sssd krb5 freeradius radius mosquitto coturn asterisk openvpn wireguard strongswan wpa-supplicant "
    "fail2ban supervisor supervisord uwsgi gunicorn celery tomcat jetty puppet chef salt backuppc bacula borg snmp "
    "debian-snmp sensu datadog filebeat fluentd vector netdata cockpit"
)
"""Users, groups and units of services that often share a host."""

DIRECTORIES = (
    "alternatives default kernel opt pam python python3 perl security skel ssl ca-certificates terminfo fonts vim xdg xml "
    "sgml misc private environment profile hosts passwd group gshadow fstab lock run srv mount credentials"
)
"""Directories and files that Debian has below /etc, /var/lib and /run, where the application's own would be."""

SUFFIXES = ("-activate", "-preflight", "-metrics", "-measure")
"""Suffixes of units and directories that Farrier creates beside those of an application."""

_HOLDERS = (
    (BASE, "is a user or group of every Debian host"),
    (SYSTEM, "is a user, group or unit of the system"),
    (DAEMONS, "is a user, group or unit of a common service"),
    (DIRECTORIES, "is a system directory or file"),
)
_NAMES = {name: why for names, why in _HOLDERS for name in names.split()}


def why_not_a_name(name: str) -> str | None:
    """Why an application cannot have this name, phrased to follow the name; None if it can."""
    if name in _NAMES:
        return f"{_NAMES[name]}; choose another name"
    for start in ("systemd-", "ansible-"):
        if name.startswith(start):
            return f"begins with {start}, which is reserved for {start[:-1]}; choose another name"
    for end in SUFFIXES:
        if name.endswith(end):
            other = name.removesuffix(end)
            return f"ends in {end}, which is reserved for units of an application called {other!r}; choose another name"
    return None


_SYSTEMD = "is set by systemd or decided by the plan"
_LOADER = "changes what code the C library loads into every process"
_PYTHON = "changes what code Python runs or where it looks for it"
_SHELL = "changes what every shell runs or reads"

_VARIABLES = {
    variable: why
    for variables, why in (
        (
            "WEB_CONCURRENCY NOTIFY_SOCKET RUNTIME_DIRECTORY STATE_DIRECTORY CACHE_DIRECTORY LOGS_DIRECTORY "
            "CONFIGURATION_DIRECTORY CREDENTIALS_DIRECTORY MAINPID MANAGERPID INVOCATION_ID JOURNAL_STREAM FDSTORE "
            "PATH HOME USER LOGNAME SHELL",
            _SYSTEMD,
        ),
        ("GLIBC_TUNABLES GCONV_PATH GETCONF_DIR LOCPATH OPENSSL_ENGINES OPENSSL_MODULES", _LOADER),
        (
            "PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONINSPECT PYTHONUSERBASE PYTHONNOUSERSITE PYTHONSAFEPATH "
            "PYTHONPLATLIBDIR PYTHONEXECUTABLE PYTHONBREAKPOINT PYTHONPYCACHEPREFIX PYTHONCASEOK PYTHON_PRESITE",
            _PYTHON,
        ),
        ("BASH_ENV SHELLOPTS BASHOPTS IFS PS4 CDPATH GLOBIGNORE PROMPT_COMMAND", _SHELL),
    )
    for variable in variables.split()
}
"""By environ(7), systemd.exec(5), ld.so(8), bash(1) and Python's command line. `ENV` is allowed: only an interactive shell
reads it, and many applications use it for their environment."""

_PREFIXES = {
    "GUNICORN_": _SYSTEMD,
    "LISTEN_": _SYSTEMD,
    "SYSTEMD_": _SYSTEMD,
    "WATCHDOG_": _SYSTEMD,
    "MEMORY_PRESSURE_": _SYSTEMD,
    "LD_": _LOADER,
    "BASH_FUNC_": _SHELL,
}


def why_not_a_variable(name: str) -> str | None:
    """Why an environment variable cannot be given to the application; None if it can."""
    return _VARIABLES.get(name) or next((why for start, why in _PREFIXES.items() if name.startswith(start)), None)
