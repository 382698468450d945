-- Dovecot's passdb and userdb out of one table of accounts.
--
--   - name: accounts
--     type: static
--     param: "file:/etc/mapmux/accounts.json"
--   - name: auth
--     type: lua
--     param: /etc/mapmux/lua/userdb.lua
--     functions: [lookup, iterate]
--     uses: [accounts]
--     config: {home: "/var/mail/%d/%n", uid: "5000", gid: "5000"}
--
-- An account is JSON text: {"password": "{SHA512-CRYPT}$6$...", "quota": "5G"}. Dovecot asks for
-- shared/passdb/USER and shared/userdb/USER, and lists shared/userdb/.

local config = mapmux.config

local function account_of(user)
	local text = mapmux.lookup("accounts", user, {form = "json"})
	return text and mapmux.json.decode(text)
end

local function home_of(user)
	local name, domain = mapmux.address.split(user)
	return (config.home:gsub("%%(.)", {n = name, d = domain or "", u = user, ["%"] = "%"}))
end

local kinds = {}

function kinds.passdb(_, account)
	return {password = account.password}
end

function kinds.userdb(user, account)
	local fields = {home = home_of(user), uid = config.uid, gid = config.gid}
	if account.quota then
		fields.quota_rule = "*:storage=" .. account.quota
	end
	return fields
end

function lookup(key)
	local kind, user = key:match("^(%w+)/(.+)$")
	local answer = kinds[kind]
	local account = answer and account_of(user:lower())
	return account and answer(user:lower(), account)
end

-- The names, as `doveadm user '*'` wants them: an account "*" holds the list.
function iterate(prefix, request)
	local users = account_of("*")
	if prefix == "userdb/" and users then
		return users
	end
end
