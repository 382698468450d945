-- Alias expansion: a web service knows the aliases as JSON, a table of ours those that must work when
-- the service does not.
--
--   - name: alias
--     type: lua
--     param: /etc/mapmux/lua/alias.lua
--     functions: [lookup]
--     uses: [emergency]
--     config: {url: "http://127.0.0.1:8080/aliases/", token: "${ALIAS_TOKEN}"}
--
-- The service answers {"goto": ["a@example.org", ...], "active": true}, or 404.

local headers = {Authorization = "Bearer " .. (mapmux.config.token or "")}

function lookup(address)
	local good, alias = pcall(mapmux.http.json,
		mapmux.config.url .. mapmux.urlencode(address), {headers = headers, timeout = 2})
	if not good then
		-- What the table does not know either stays a failure: the mail waits, it does not bounce.
		mapmux.log("warn", "the alias service fails: " .. tostring(alias))
		return mapmux.lookup("emergency", address) or mapmux.temp("the alias service fails")
	end
	if alias and alias.active ~= false then
		return alias["goto"]
	end
end
