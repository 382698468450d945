-- What every script of a lua table finds in `mapmux`, as far as it can be written in Lua. Built into
-- the program; docs/lua.md describes it.

local mapmux, wrote = ...
local http, dns, null = mapmux.http, mapmux.dns, mapmux.null

-- ---- HTTP ----

-- reply.headers: names in small letters; the values of one that came often are joined by a comma. Most
-- scripts never look at them, so they are read when they are asked for.
function http.reply.__index(reply, name)
	if name ~= "headers" then
		return nil
	end
	local headers = {}
	for header, value in reply.head:gmatch("([^:\r\n]+):[ \t]*([^\r\n]*)") do
		header = header:lower()
		headers[header] = headers[header] and headers[header] .. ", " .. value or value
	end
	reply.headers = headers
	return headers
end
http.reply = nil

function http.get(url, options)
	return http.request("GET", url, options)
end

function http.post(url, body, options)
	local all = {}
	for name, value in pairs(options or {}) do
		all[name] = value
	end
	all.body = body
	return http.request("POST", url, all)
end

-- The usual contract of a service: 200 and JSON, or 404 and 410 for "there is none". All else is an
-- error, so that it is never taken for an absence.
function http.json(url, options)
	local reply = http.request("GET", url, options)
	if reply.status == 200 then
		return mapmux.json.decode(reply.body)
	elseif reply.status == 404 or reply.status == 410 then
		return nil
	end
	error(mapmux.temp("HTTP status " .. reply.status))
end

-- ---- addresses ----

mapmux.address = {}

-- user+box@example.org: "user+box", "example.org"; without an @ the second is nil.
function mapmux.address.split(address)
	local at = 0
	while true do
		local next = address:find("@", at + 1, true)
		if not next then
			break
		end
		at = next
	end
	if at == 0 then
		return address, nil
	end
	return address:sub(1, at - 1), address:sub(at + 1)
end

-- user+box@example.org: "user@example.org", "box"; without an extension the second is nil. The
-- delimiters are a set of characters, "+" unless given.
function mapmux.address.strip(address, delimiters)
	local user, domain = mapmux.address.split(address)
	delimiters = delimiters or "+"
	for i = 2, #user do
		if delimiters:find(user:sub(i, i), 1, true) then
			local bare = user:sub(1, i - 1)
			return domain and bare .. "@" .. domain or bare, user:sub(i + 1)
		end
	end
	return address, nil
end

-- ---- DNS ----

-- Is the address on the list? Gives the list's codes (127.0.0.2, ...), or nil. An address that is
-- none is on no list.
function dns.blocklist(address, zone)
	local name = dns.reverse(address)
	if not name then
		return nil
	end
	name = name:gsub("%.in%-addr%.arpa$", ""):gsub("%.ip6%.arpa$", "")
	return (dns.a(name .. "." .. zone))
end

-- ---- one function for what a script may spread over several ----

local function is_status(value)
	return type(value) == "table" and getmetatable(value) == getmetatable(mapmux.temp())
end

-- Changes one by one, in order. What comes behind a change that was made, and fails, leaves the
-- whole uncertain.
local function one_by_one(functions)
	local function call(operation, request)
		request.scope = operation.scope
		local f = functions[operation.op]
		if operation.op == "set" then
			return f(operation.key, operation.value, request)
		elseif operation.op == "unset" then
			return f(operation.key, request)
		end
		return f(operation.key, operation.diff, request)
	end

	-- Nothing is success; nil, false and mapmux.temp() and its like are not. By nil an increment misses its
	-- key, but what was to be unset and is not there is gone, and a set has no key to miss.
	local function check(op, first, ...)
		local result = ...
		if select("#", ...) == 0 or (result and not is_status(result)) or (op == "unset" and result == nil) then
			return true
		elseif first and op == "set" and result == nil then
			return false, mapmux.perm("set() says that there is no such key")
		elseif first then
			return false, result
		end
		local reason = result and result.reason or "a later change was refused"
		return false, mapmux.uncertain(reason)
	end

	return function(operations, request)
		for _, operation in ipairs(operations) do
			if not functions[operation.op] then
				return mapmux.perm("the script defines no " .. operation.op .. "()")
			end
		end
		for i, operation in ipairs(operations) do
			local good, result = check(operation.op, i == 1, call(operation, request))
			if not good then
				return result
			end
			wrote()
		end
	end
end

-- A list of names becomes an object of names and values when values are wanted.
local function with_values(iterate, lookup)
	local function value_of(name, request)
		local value = lookup(name, request)
		if is_status(value) then
			error(value)
		end
		return value
	end

	return function(prefix, request)
		if request.exact and lookup then
			return mapmux.json.object {[""] = value_of(prefix, request)}
		end
		local found = iterate(prefix, request)
		if type(found) ~= "table" or is_status(found) or not request.values
			or type(found[1]) ~= "string" or #found == 0 then
			return found
		elseif not lookup then
			return mapmux.perm("iterate() gives names alone, and there is no lookup()")
		end
		local rows = mapmux.json.object {}
		for _, name in ipairs(found) do
			if request.recurse or not name:find("/", 1, true) then
				rows[name] = value_of(prefix .. name, request)
			end
		end
		return rows
	end
end

return function(script)
	local iterate, change
	if script.iterate then
		iterate = with_values(script.iterate, script.lookup)
	end
	if script.commit then
		change = script.commit
	elseif script.set or script.unset or script.increment then
		change = one_by_one {set = script.set, unset = script.unset, increment = script.increment}
	end
	return iterate, change
end
