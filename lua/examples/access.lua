-- Recipient access by DNS blocklists.
--
--   - name: access
--     type: lua
--     param: /etc/mapmux/lua/access.lua
--     functions: [lookup, policy]
--     config: {domains: dbl.example.org, addresses: zen.example.org}
--
-- In Postfix: check_recipient_access socketmap:unix:/run/mapmux/socketmap:access. The same script
-- answers policy requests, which also tell the client's address.

local address_of = mapmux.address

-- Postfix asks for the whole address, then for parts of it; the domain is in the first.
function lookup(recipient)
	local _, domain = address_of.split(recipient)
	if domain and mapmux.dns.a(domain:lower() .. "." .. mapmux.config.domains) then
		return "REJECT 5.7.1 We send nothing to " .. domain
	end
end

function policy(attributes)
	local address = attributes.client_address or ""
	local codes = mapmux.dns.blocklist(address, mapmux.config.addresses)
	if not codes then
		return "DUNNO"
	end
	local text = mapmux.dns.txt((mapmux.dns.reverse(address)
		:gsub("%.in%-addr%.arpa$", ""):gsub("%.ip6%.arpa$", "")) .. "." .. mapmux.config.addresses)
	return "REJECT 5.7.1 " .. (text and text[1] or "Your address is on a blocklist")
end
