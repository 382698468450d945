"""A double of userli's API: what its server answers, word for word; it normalises no key."""

import json
import re
import urllib.parse

from .backend import Backend, Reply, as_json


def exception(status, message):
    """What userli makes of an exception below /api/."""
    return as_json({"error": {"message": message, "code": 0}}, status)


class Userli:
    """Users, aliases and domains behind tokens. fault(request) may give a Reply of its own."""

    def __init__(self, case, tokens=None):
        self.tokens = tokens or {"good-token": {"postfix", "dovecot"}}
        self.domains, self.users, self.aliases = {"example.org"}, {}, []
        self.settings = {"smtp_quota_limit_per_hour": 0, "smtp_quota_limit_per_day": 0}
        self.fault = None
        self.backend = Backend(case, self.answer)

    @property
    def url(self):
        return self.backend.url

    def user(self, email, password="secret", **fields):
        """fields: deleted, spam, change (of password), per_hour, per_day, quota (MiB), crypt, public,
        private."""
        self.users[email] = {"password": password, **fields}

    def alias(self, source, destination, **fields):
        """fields: deleted, per_hour, per_day."""
        self.aliases.append({"source": source, "destination": destination, **fields})

    def asked(self):
        """The decoded paths that were asked for."""
        return [request.plain_path for request in self.backend.seen()]

    def answer(self, request):
        reply = self.fault(request) if self.fault else None
        if reply is not None:
            return reply
        path = request.plain_path
        if not path.startswith("/api/"):
            return Reply(b"<html>Not Found</html>", 404, content_type="text/html")
        for scope, method, pattern, action in (
                ("postfix", "GET", "/api/postfix/alias/([^/]+)", self.get_alias),
                ("postfix", "GET", "/api/postfix/domain/([^/]+)", self.get_domain),
                ("postfix", "GET", "/api/postfix/mailbox/([^/]+)", self.get_mailbox),
                ("postfix", "GET", "/api/postfix/senders/([^/]+)", self.get_senders),
                ("postfix", "GET", "/api/postfix/smtp_quota/([^/]+)", self.get_quota),
                ("postfix", "POST", "/api/postfix/auth()", self.post_auth),
                ("dovecot", "GET", "/api/dovecot/status()", lambda _: as_json({"message": "success"})),
                ("dovecot", "GET|POST", "/api/dovecot/([^/]+)", self.dovecot)):
            found = re.fullmatch(pattern, path)
            if not found:
                continue
            refused = self.refuse(request, scope)
            if refused:
                return refused
            if request.method not in method.split("|"):
                return exception(405, f'No route found for "{request.method} {path}": Method Not Allowed')
            self.request = request
            return action(found.group(1))
        return exception(404, f'No route found for "{request.method} {path}"')

    def refuse(self, request, scope):
        token = None
        found = re.fullmatch(r"(?i)bearer +(.+)", request.header("Authorization") or "")
        if found:
            token = found.group(1)
        else:
            token = request.header("X-API-Token")
        if not token:
            return as_json({"error": "No API token provided"}, 401)
        if token not in self.tokens:
            return as_json({"error": "Invalid API token"}, 401)
        if scope not in self.tokens[token]:
            return exception(403, f"Token does not have required scope: {scope}")
        return None

    def live(self, email):
        user = self.users.get(email)
        return user if user and not user.get("deleted") else None

    def destinations(self, source):
        return [alias["destination"] for alias in self.aliases
                if alias["source"] == source and not alias.get("deleted")]

    def get_alias(self, key):
        local, _, domain = key.partition("@")
        setting = self.settings.get(f"{local}_address")
        if local in ("postmaster", "abuse") and domain in self.domains and setting:
            return as_json([setting])
        return as_json(self.destinations(key))

    def get_domain(self, key):
        return as_json(key in self.domains)

    def get_mailbox(self, key):
        return as_json(self.live(key) is not None)

    def get_senders(self, key):
        found = [key] if self.live(key) else []
        return as_json(list(dict.fromkeys(found + self.destinations(key))))

    def get_quota(self, key):
        found = self.live(key) or next((alias for alias in self.aliases if alias["source"] == key), None)
        if found is None:
            return as_json({"error": "User not found"}, 404)
        return as_json({name: found.get(name, self.settings["smtp_quota_limit_" + name])
                        for name in ("per_hour", "per_day")})

    def body(self):
        """The JSON of a POST, or the Reply that refuses it."""
        if not (self.request.header("Content-Type") or "").startswith("application/json"):
            return exception(415, "Unsupported format.")
        try:
            return json.loads(self.request.body)
        except ValueError:
            return exception(400, "Request payload contains invalid \"json\" data.")

    def post_auth(self, _):
        body = self.body()
        if isinstance(body, Reply):
            return body
        if not body.get("email") or not body.get("password"):
            return exception(422, "This value should not be blank.")
        user = self.live(body["email"])
        if user is None or user["password"] != body["password"]:
            return as_json({"message": "authentication failed"}, 401)
        if user.get("spam"):
            return as_json({"message": "user disabled due to spam role"}, 403)
        if user.get("change"):
            return as_json({"message": "user password change required"}, 403)
        return as_json({"message": "success"})

    def dovecot(self, key):
        user = self.users.get(key)
        if self.request.method == "GET":
            if user is None or user.get("deleted"):
                return as_json({"message": "user not found"}, 404)
            crypt = 2 if user.get("crypt") and user.get("public") else 0
            quota = f"{user['quota']}M" if user.get("quota") else ""
            return as_json({"message": "success", "body": {
                "user": key, "mailCrypt": crypt, "mailCryptPublicKey": user.get("public", ""),
                "quota": quota}})
        if user is None:
            return exception(404, "App\\Entity\\User object not found.")
        if user.get("deleted"):
            return as_json({"message": "user not found"}, 404)
        body = self.body()
        if isinstance(body, Reply):
            return body
        if not body.get("password"):
            return exception(422, "This value should not be blank.")
        if user.get("spam"):
            return as_json({"message": "user disabled due to spam role"}, 403)
        if user.get("change"):
            return as_json({"message": "user password change required"}, 403)
        if user["password"] != body["password"]:
            return as_json({"message": "authentication failed"}, 401)
        return as_json({"message": "success", "body": {
            "mailCrypt": 2 if user.get("crypt") else 0, "mailCryptPrivateKey": user.get("private", ""),
            "mailCryptPublicKey": user.get("public", "")}})


def encoded(text):
    """A key as it must stand in a path."""
    return urllib.parse.quote(text, safe="-._~")
