/* What Dovecot may get: a client of the dict protocol that knows what it has asked, reads the server's
 * lines as strictly as can be, and says what of them would crash, mislead or disconnect a Dovecot of its
 * version. It sends nothing; who sends tells it by model_expect(). */
#ifndef DICT_MODEL_H
#define DICT_MODEL_H

#include <assert.h>

#include "base/arena.h"
#include "base/buf.h"
#include "model/question.h"

enum { MODEL_PENDING = 512 };

/* A command that wants a reply. */
struct model_command {
	enum { MODEL_LOOKUP, MODEL_ITERATE, MODEL_COMMIT, MODEL_KINDS } kind;
	bool old_letter;     /* D, whose replies begin with "A" */
	bool adds;           /* an increment is among the changes, so "N" is an answer */
	unsigned flags;      /* of an iteration */
	uint64_t max_rows;   /* of an iteration; 0: all */
	char transaction[8]; /* its number, which replies repeat */
	char path[64];       /* of an iteration, with its prefix: what names of rows begin with */
	char mark[16]; /* its own word: what begins with another's is another's answer; "": any */
	uint32_t id;   /* 0: it has none yet */
	uint64_t rows;
};

struct model {
	unsigned major, minor;
	struct arena mem;
	struct model_command pending[MODEL_PENDING];
	size_t npending;
	unsigned heard[MODEL_KINDS][128]; /* by kind of command and letter; 0: the end of rows */
};

static inline bool model_numbers(const struct model *model)
{
	return model->major >= 3 || model->minor >= 1;
}

static inline void model_expect(struct model *model, const struct model_command *command)
{
	assert(model->npending < MODEL_PENDING);
	model->pending[model->npending++] = *command;
}

static inline void model_answered(struct model *model, struct model_command *command)
{
	size_t at = (size_t)(command - model->pending);
	model->npending--;
	memmove(command, command + 1, (model->npending - at) * sizeof(*command));
}

/* Without escapes; false when they are not those that this version knows. NUL is none of them: its
 * strings would end there. */
static inline bool model_unescape(struct model *model, struct str field, bool cr, struct str *text)
{
	static const char codes[] = "1tnr", bytes[] = "\1\t\n\r";
	char *to = arena_alloc(&model->mem, field.len + 1);
	size_t n = 0;
	for (size_t i = 0; i < field.len; i++) {
		char c = field.ptr[i];
		if (c == '\1') {
			const char *code = ++i < field.len ? strchr(codes, field.ptr[i]) : NULL;
			if (!code || !*code || (*code == 'r' && !cr))
				return false;
			c = bytes[code - codes];
		} else if (c == '\0' || (c == '\r' && cr)) {
			return false;
		}
		to[n++] = c;
	}
	*text = (struct str){to, n};
	return true;
}

/* A text of these tests begins with its question's word and a colon, or has none of both. */
static inline bool model_is_own(const struct model_command *command, struct str text)
{
	struct str word;
	return !str_cut(&text, ':', &word) || !str_starts(word, STR("k")) ||
	       command->mark[0] == '\0' || str_eq(word, str_of(command->mark));
}

enum { MODEL_FIELDS = 4 };

/* One reply, in parts. */
struct model_reply {
	char letter;                     /* 0: the line is empty */
	struct str fields[MODEL_FIELDS]; /* the first without the letter */
	size_t nfields;
};

static inline const char *model_split(
	struct model *model, struct str body, struct model_reply *reply)
{
	struct str field;
	if (body.len > 0 && body.ptr[body.len - 1] == '\r')
		return "a CR that is lost before the line's end";
	*reply = (struct model_reply){.letter = '\0'};
	if (body.len > 0 && body.ptr[0] != '\t') {
		reply->letter = body.ptr[0];
		body = str_skip(body, 1);
	}
	for (bool more = true; more; reply->nfields++) {
		if (reply->nfields == MODEL_FIELDS)
			return "more fields than any reply has";
		more = str_cut(&body, '\t', &field);
		if (!model_unescape(
			    model, field, model_numbers(model), &reply->fields[reply->nfields]))
			return "an escape or a byte that this version does not know";
	}
	return NULL;
}

static inline const char *model_failure(const struct model_command *command, struct str reason)
{
	if (reason.len == 0)
		return "a failure without a reason";
	return model_is_own(command, reason) ? NULL : "the reason of another's failure";
}

/* M: the values are one field, in which each has its own escapes. */
static inline const char *model_values(
	struct model *model, const struct model_command *command, struct str values)
{
	struct str value, text;
	size_t n = 0;
	if (model->major == 2 && model->minor < 2)
		return "several values for who knows of one only";
	if (values.len == 0)
		return "no values: ends an auth-worker of 2.3";
	for (bool more = true; more; n++) {
		more = str_cut(&values, '\t', &value);
		if (!model_unescape(model, value, true, &text))
			return "a value of several with wrong escapes";
		if (!model_is_own(command, text))
			return "a value of another lookup";
	}
	return n > 1 ? NULL : "one value as several";
}

static inline const char *model_lookup(
	struct model *model, struct model_command *command, const struct model_reply *reply)
{
	const char *fault = NULL;
	struct str text = reply->fields[0];
	if (reply->letter == '\0' || !strchr("OMNF", reply->letter))
		return "no reply to a lookup: ends a process of 2.3";
	if (reply->nfields != 1)
		return "more than one field to a lookup";
	if (reply->letter == 'N' && text.len > 0)
		return "not found, with text";
	if (reply->letter == 'O' && !model_is_own(command, text))
		return "the value of another lookup";
	if (reply->letter == 'M')
		fault = model_values(model, command, text);
	if (reply->letter == 'F')
		fault = model_failure(command, text);
	model_answered(model, command);
	return fault;
}

static inline const char *model_row(struct model_command *command, const struct model_reply *reply)
{
	struct str path = str_of(command->path), name = reply->fields[0];
	if (reply->nfields < 2)
		return "a row without a TAB: ends a process of 2.3";
	if (reply->nfields > 2)
		return "a row with more than a name and a value";
	if (!str_starts(name, path))
		return "a row outside of the path: ends a process of 2.3";
	if (!(command->flags & (ITER_RECURSE | ITER_EXACT_KEY)) &&
		str_has(str_skip(name, path.len), '/'))
		return "a row from deeper than was asked for";
	if ((command->flags & ITER_EXACT_KEY) && !str_eq(name, path))
		return "a row of another key";
	if ((command->flags & ITER_NO_VALUE) && reply->fields[1].len > 0)
		return "a value where none was asked for";
	if (!model_is_own(command, reply->fields[1]))
		return "a value of another iteration";
	command->rows++;
	return command->max_rows > 0 && command->rows > command->max_rows
		       ? "more rows than were asked for"
		       : NULL;
}

static inline const char *model_iterate(
	struct model *model, struct model_command *command, const struct model_reply *reply)
{
	const char *fault = NULL;
	if (reply->letter == 'O')
		return model_row(command, reply);
	if (reply->letter != '\0' && reply->letter != 'F')
		return "no reply to an iteration: ends a process of 2.3";
	if (reply->nfields != 1)
		return "more than one field at the end of an iteration";
	if (reply->letter == 'F')
		fault = model_failure(command, reply->fields[0]);
	model_answered(model, command);
	return fault;
}

static inline const char *model_commit(
	struct model *model, struct model_command *command, struct model_reply *reply)
{
	const char *fault = NULL;
	if (command->old_letter) {
		if (reply->letter != 'A' || reply->fields[0].len == 0)
			return "a reply to D without its A";
		reply->letter = reply->fields[0].ptr[0];
		reply->fields[0] = str_skip(reply->fields[0], 1);
	}
	if (reply->letter == '\0' || !strchr("ONFW", reply->letter))
		return "no reply to a commit: ends a process of 2.3";
	if (!str_eq(reply->fields[0], str_of(command->transaction)))
		return "the number of another transaction";
	if (reply->letter == 'N' && !command->adds)
		return "not found, where nothing was to be incremented";
	bool failed = reply->letter == 'F' || reply->letter == 'W';
	if (reply->nfields != (failed ? 2 : 1))
		return failed ? "a failure's reason is the second field" : "more than one field";
	if (failed)
		fault = model_failure(command, reply->fields[1]);
	model_answered(model, command);
	return fault;
}

static inline const char *model_body(
	struct model *model, struct model_command *command, struct str body)
{
	struct model_reply reply;
	const char *fault = model_split(model, body, &reply);
	if (fault)
		return fault;
	bool skip = command->old_letter && reply.fields[0].len > 0; /* an A */
	model->heard[command->kind][(skip ? reply.fields[0].ptr[0] : reply.letter) & 0x7f]++;
	if (command->kind == MODEL_LOOKUP)
		return model_lookup(model, command, &reply);
	if (command->kind == MODEL_ITERATE)
		return model_iterate(model, command, &reply);
	return model_commit(model, command, &reply);
}

static inline struct model_command *model_find(struct model *model, uint64_t id)
{
	for (size_t i = 0; i < model->npending; i++)
		if (model->pending[i].id == id)
			return &model->pending[i];
	return NULL;
}

/* "*ID": the oldest that has none gets it. */
static inline const char *model_announced(struct model *model, struct str digits)
{
	uint64_t id;
	struct model_command *command = model_find(model, 0);
	if (!str_u64(digits, &id) || id == 0 || id > UINT32_MAX)
		return "an id that is none";
	if (model_find(model, id))
		return "an id twice";
	if (!command)
		return "an id for nothing";
	command->id = (uint32_t)id;
	return NULL;
}

/* A line without its LF. NULL: it may come. */
static inline const char *model_line(struct model *model, struct str line)
{
	struct str digits;
	uint64_t id;
	if (model->npending == 0)
		return "a reply that nobody waits for";
	if (!model_numbers(model))
		return model_body(model, &model->pending[0], line);
	char first = line.len > 0 ? line.ptr[0] : '\0';
	if (first != '*' && first != '+')
		return "a reply without a number among those with numbers";
	line = str_skip(line, 1);
	if (first == '*')
		return model_announced(model, line);
	if (!str_cut(&line, '\t', &digits) || !str_u64(digits, &id) || id == 0)
		return "an id that is none";
	struct model_command *command = model_find(model, id);
	return command ? model_body(model, command, line) : "an id that was not announced";
}

#endif
