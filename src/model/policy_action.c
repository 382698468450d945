/* Actions of Postfix policy delegation. */
#include "model/policy_action.h"

enum { MAX_ACTION = 100000 }; /* bytes */

struct str policy_action_trim(struct str action)
{
	while (action.len > 0 && (action.ptr[0] == ' ' || action.ptr[0] == '\t'))
		action = str_skip(action, 1);
	return action;
}

/* A rejection by its number alone: digits only mean OK to Postfix. */
static bool is_bare_code(struct str action)
{
	action = str_trim(action);
	return action.len == 3 && (action.ptr[0] == '4' || action.ptr[0] == '5') &&
	       action.ptr[1] >= '0' && action.ptr[1] <= '9' && action.ptr[2] >= '0' &&
	       action.ptr[2] <= '9';
}

const char *policy_action_fault(struct str action)
{
	action = policy_action_trim(action);
	if (!str_is_line(action))
		return "the action has a line break or a NUL byte";
	if (action.len == 0)
		return "the action is empty, which Postfix takes for OK";
	if (is_bare_code(action))
		return "the action is a code without a text, which Postfix takes for OK";
	return action.len > MAX_ACTION ? "the action is too long" : NULL;
}

bool policy_action_check(const char *name, const char *action, struct error *error)
{
	const char *fault = policy_action_fault(str_of(action));
	return !fault || error_set(error, "%s: %s; allowed: an action as in access(5), on one line",
				 name, fault);
}

bool policy_sends(struct str attribute)
{
	static const char names[] =
		"request protocol_state protocol_name helo_name queue_id sender recipient "
		"recipient_count client_address client_name client_port reverse_client_name "
		"server_address server_port instance sasl_method sasl_username sasl_sender size "
		"ccert_subject ccert_issuer ccert_fingerprint ccert_pubkey_fingerprint "
		"encryption_protocol encryption_cipher encryption_keysize etrn_domain stress "
		"policy_context compatibility_level mail_version tls_sni";
	return str_is_among(attribute, STR(names));
}
