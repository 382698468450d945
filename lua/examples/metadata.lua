-- Per-user metadata in Redis: a dict for Dovecot's mail_attribute_dict or any other. Each user has a
-- hash, what is shared has one more; a transaction is one MULTI.
--
--   - name: metadata
--     type: lua
--     param: /etc/mapmux/lua/metadata.lua
--     functions: [lookup, iterate, commit]
--     redis: "redis://127.0.0.1/0"
--
-- (The table type `redis` does the same without a script. This is for those who want to do it
-- differently.)

local function hash_of(scope, user)
	return scope == "priv" and "meta:user:" .. user or "meta:shared"
end

function lookup(key, request)
	return mapmux.redis("HGET", hash_of(request.scope, request.user), key)
end

function iterate(prefix, request)
	local all = mapmux.redis("HGETALL", hash_of(request.scope, request.user))
	local rows = {}
	for i = 1, #all, 2 do
		if all[i]:sub(1, #prefix) == prefix then
			rows[all[i]:sub(#prefix + 1)] = all[i + 1]
		end
	end
	return rows
end

function commit(operations, request)
	local commands = {}
	for i, operation in ipairs(operations) do
		local hash, key = hash_of(operation.scope, request.user), operation.key
		if operation.op == "set" then
			commands[i] = {"HSET", hash, key, operation.value}
		elseif operation.op == "unset" then
			commands[i] = {"HDEL", hash, key}
		else
			commands[i] = {"HINCRBY", hash, key, operation.diff}
		end
	end
	if #commands > 0 then
		mapmux.redis(commands)
	end
end
