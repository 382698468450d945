/* Actions of Postfix policy delegation (access(5), SMTPD_POLICY_README), as Postfix understands them. */
#ifndef MAPMUX_POLICY_ACTION_H
#define MAPMUX_POLICY_ACTION_H

#include "model/setting.h"

/* Without blanks in front: with them Postfix would take it for a list of restrictions. */
struct str policy_action_trim(struct str action);

/* Why Postfix would not do what the action says; NULL: it would. */
const char *policy_action_fault(struct str action);

/* Of the setting `name`. */
bool policy_action_check(const char *name, const char *action, struct error *error);

/* Does Postfix (3.12) send an attribute of this name? */
bool policy_sends(struct str attribute);

#endif
