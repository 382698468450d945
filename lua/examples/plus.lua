-- Plus-address routing: user+box@example.org goes to where `aliases` sends user+box@example.org, else
-- to where it sends user@example.org, with the extension kept.
--
--   - name: plus
--     type: lua
--     param: /etc/mapmux/lua/plus.lua
--     functions: [lookup]
--     uses: [aliases]
--     config: {delimiters: "+-"}

local delimiters = mapmux.config.delimiters or "+"
local split, strip = mapmux.address.split, mapmux.address.strip

local function with_extension(target, extension)
	local user, domain = split(target)
	if domain and not select(2, strip(target, delimiters)) then
		return user .. delimiters:sub(1, 1) .. extension .. "@" .. domain
	end
	return target
end

function lookup(address)
	address = address:lower()
	local exact = mapmux.lookup("aliases", address)
	local bare, extension = strip(address, delimiters)
	if exact or not extension then
		return exact
	end
	local targets = mapmux.lookup("aliases", bare)
	if not targets then
		return nil
	end
	local list = {}
	for target in targets:gmatch("[^,%s]+") do
		list[#list + 1] = with_extension(target, extension)
	end
	return list
end
