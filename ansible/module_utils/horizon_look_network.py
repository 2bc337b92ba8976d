"""nginx, ports, names and certificates."""

from __future__ import annotations

from ansible.module_utils.horizon_check import Host, last, wait

LEAST_CERTIFICATE_DAYS = 15
RENEWAL = "certbot.service"
LOOPBACK = ("127.", "[::1]", "::1")


def nginx_wrong(host: Host) -> str | None:
    code, output = host.run("nginx", "-t", "-q")
    return f"nginx refuses its settings: {last(output)}" if code else None


def ports_closed(host: Host) -> str | None:
    held = {port for _, port in host.listeners()}
    closed = [str(port) for port in host.params["public_ports"] if port not in held]
    return f"nothing listens on port {' and '.join(closed)}" if closed else None


def restart_nginx(host: Host) -> None:
    if nginx_wrong(host) is None:
        host.run("systemctl", "restart", "nginx.service")


def exposed(host: Host) -> str | None:
    wide = sorted(
        {
            f"{address}:{port}"
            for address, port in host.listeners()
            if port in host.params["private_ports"]
            and not address.startswith(LOOPBACK)
            and address not in host.params["private_addresses"]
        }
    )
    return f"reachable from other machines: {', '.join(wide)}" if wide else None


def firewall_gone(host: Host) -> str | None:
    code, _ = host.run("nft", "list", "table", "inet", "horizonai_bots")
    return "the firewall's rules are not loaded" if code else None


def unresolved(host: Host) -> str | None:
    lost = [name for name in host.params["outside_names"] if not host.resolve(name)]
    return f"{', '.join(lost)} cannot be resolved" if lost else None


def domain_elsewhere(host: Host) -> str | None:
    wanted = set(host.params["addresses"])
    for domain in host.params["domains"]:
        found = host.resolve(domain)
        if not found:
            return f"{domain} has no address"
        if wanted and not found & wanted:
            return f"{domain} leads to {', '.join(sorted(found))}, not to this host"
    return None


def certificate_wrong(host: Host) -> str | None:
    for domain in host.params["domains"]:
        found = host.certificate(domain)
        if found is None:
            return f"{domain} has no certificate that can be read"
        days, issuer = found
        if days < LEAST_CERTIFICATE_DAYS:
            return f"the certificate of {domain} ({issuer}) ends in {days:.0f} days"
    return None


def not_served(host: Host) -> str | None:
    """A renewal that was broken off has told nginx nothing, which goes on with what it has read."""
    for domain in host.params["domains"]:
        if host.serves(domain) is False:
            return f"nginx serves another certificate of {domain} than the one on the disk"
    return None


def reload_nginx(host: Host) -> None:
    # What nginx has read may be better than what is on the disk.
    if certificate_wrong(host) is None and nginx_wrong(host) is None:
        host.run("systemctl", "reload", "nginx.service")
        wait(lambda: not_served(host) is None)


def renew(host: Host) -> None:
    # What its timer starts: it knows the proxy and the authority's root.
    host.run("systemctl", "start", RENEWAL)
