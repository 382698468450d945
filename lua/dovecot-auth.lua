-- A passdb and a userdb for Dovecot (2.3 and 2.4): tables of mapmux, asked through its http listener.
-- docs/dovecot-auth.md shows how it is set up. Dovecot 2.4 gives the settings as lua_settings; for 2.3 a
-- file of one's own sets the global `mapmux` and then loads this one:
--
--   mapmux = {url = "http://127.0.0.1:10002", passdb = "login", userdb = "users"}
--   dofile("/usr/share/mapmux/dovecot-auth.lua")
--
--   url          of the http listener
--   passdb       the table that verifies passwords; may be left out
--   userdb       the table that is looked up for users, and iterated; may be left out
--   userdb_key   what is asked for: "%s" is the user; default "%s"
--   iterate      the prefix of all users' keys, which is cut off; default ""
--   token        what the listener wants to see; or token_file, which holds it
--   timeout      of one request, in milliseconds; default 10000
--
-- Only mapmux's own words count. Whatever else happens (no connection, no time, another service, a wrong
-- token, a table that is not there) is a failure of ours, never a wrong password or an unknown user.

local json = require("cjson.safe")
local settings = mapmux or {}
local auth = dovecot.auth
local client, shown -- the token

local function read_token()
	if not settings.token_file then
		return settings.token
	end
	local file = assert(io.open(settings.token_file))
	local line = assert(file:read("*l"), settings.token_file .. " is empty")
	file:close()
	return line
end

-- As RFC 3986 wants it: all that is not unreserved.
local function quote(text)
	return (text:gsub("[^%w%-._~]", function(c)
		return ("%%%02X"):format(c:byte())
	end))
end

local function fail(what)
	dovecot.i_error("mapmux: " .. what)
	return nil
end

-- The answer in mapmux's words: {status = "ok", ...} or {status = "notfound"}; nil for all else.
local function ask(method, path, body)
	client = client or dovecot.http.client({
		timeout = tonumber(settings.timeout) or 10000, max_attempts = 1})
	local request = client:request({url = settings.url .. path, method = method})
	if shown then
		request:add_header("Authorization", "Bearer " .. shown)
	end
	if body then
		request:add_header("Content-Type", "application/json")
		request:set_payload(json.encode(body))
	end
	local response = request:submit()
	local code = response:status()
	local answer = json.decode(response:payload() or "")
	local status = type(answer) == "table" and answer.status
	if (code == 200 and status == "ok") or (code == 404 and status == "notfound") then
		return answer
	end
	return fail(("%s: %d %s%s"):format(path:match("^[^?]*"), code, response:reason() or "",
		type(answer) == "table" and type(answer.reason) == "string" and ": " .. answer.reason or ""))
end

-- Whatever goes wrong within is a failure, not the end of Dovecot's script.
local function guarded(failure, work)
	return function(...)
		local results = table.pack(pcall(work, ...))
		if results[1] then
			return table.unpack(results, 2, results.n)
		end
		fail(tostring(results[2]))
		return failure, "mapmux failed"
	end
end

-- Dovecot's fields have names without white space, and one line as a value; what is true is "yes", and what
-- is false or null is left out, so that "nopassword: false" lets nobody in.
local function add_fields(to, from)
	for name, value in pairs(from) do
		if value == true then
			value = "yes"
		elseif value == false or value == json.null then
			value = nil
		elseif type(value) == "number" then -- 1000, and not the 1000.0 that JSON's numbers are to Lua
			value = (value % 1 == 0 and "%.0f" or "%.14g"):format(value)
		elseif type(value) == "table" then
			error("the field " .. name .. " is no text")
		end
		if value ~= nil then
			to[name] = value
		end
	end
	return to
end

-- ---- passdb ----

-- Fields that would let somebody in without the password that has just been verified, or with another.
local function without_passwords(fields)
	for _, name in ipairs({"password", "pass", "nopassword", "nopassword_domain", "status"}) do
		fields[name] = nil
	end
	return fields
end

local function verify(request, password)
	if not settings.passdb then
		return auth.PASSDB_RESULT_NEXT, {}
	end
	local answer = ask("POST", "/v1/auth/" .. quote(settings.passdb), {
		user = request.user, password = password, service = request.service,
		rip = request.remote_ip or request.rip, lip = request.local_ip or request.lip})
	if not answer then
		return auth.PASSDB_RESULT_INTERNAL_FAILURE, "mapmux failed"
	end
	if answer.status == "notfound" then
		return auth.PASSDB_RESULT_PASSWORD_MISMATCH, answer.reason or "authentication failed"
	end
	local fields = add_fields({}, answer.fields or {})
	if type(answer.value) == "table" then
		add_fields(fields, answer.value)
	end
	return auth.PASSDB_RESULT_OK, without_passwords(fields)
end

auth_password_verify = guarded(auth.PASSDB_RESULT_INTERNAL_FAILURE, verify)

-- ---- userdb ----

local function lookup(request)
	assert(settings.userdb, "the setting userdb is missing")
	local key = (settings.userdb_key or "%s"):gsub("%%s", (request.user:gsub("%%", "%%%%")))
	local answer = ask("GET", "/v1/lookup/" .. quote(settings.userdb) .. "?key=" .. quote(key))
	if not answer then
		return auth.USERDB_RESULT_INTERNAL_FAILURE, "mapmux failed"
	end
	if answer.status == "notfound" then
		return auth.USERDB_RESULT_USER_UNKNOWN, "unknown user"
	end
	if type(answer.value) ~= "table" then
		fail("the value of " .. key .. " is no JSON object")
		return auth.USERDB_RESULT_INTERNAL_FAILURE, "mapmux failed"
	end
	return auth.USERDB_RESULT_OK, add_fields({}, answer.value)
end

auth_userdb_lookup = guarded(auth.USERDB_RESULT_INTERNAL_FAILURE, lookup)

-- A list that is not whole must not look like one: who asks would take the others for deleted.
function auth_userdb_iterate()
	assert(settings.userdb, "mapmux: the setting userdb is missing")
	local prefix = settings.iterate or ""
	local answer = ask("GET", ("/v1/iterate/%s?recurse=yes&prefix=%s"):format(
		quote(settings.userdb), quote(prefix)))
	if not answer or (answer.status == "ok" and type(answer.rows) ~= "table") then
		error("mapmux failed")
	end
	local users = {}
	for _, row in ipairs(answer.rows or {}) do -- none: there are no users
		users[#users + 1] = row.key:sub(#prefix + 1)
	end
	return users
end

function script_init(given)
	for name, value in pairs(given or {}) do
		settings[name] = value
	end
	if not settings.url then
		dovecot.i_error("mapmux: the setting url is missing")
		return 1
	end
	shown = read_token()
	return 0
end

function script_deinit()
	client = nil
end
