/* Questions and answers as bytes: what a cache compares and keeps. */
#ifndef MAPMUX_CACHE_PACK_H
#define MAPMUX_CACHE_PACK_H

#include "base/buf.h"
#include "model/question.h"

/* On what the answer to a question depends beside operation, form, scope, key, flags and bound of
 * rows. Zeroed: on the user and all attributes. */
struct vary {
	bool narrowed;           /* only on what follows */
	bool user;               /* of a priv/ key always */
	const struct str *attrs; /* names */
	size_t nattrs;
};

/* Appends the question: two questions have the same bytes just when one answer fits both. */
void question_pack(const struct question *ask, const struct vary *vary, struct buf *to);

/* Of ST_OK or ST_NOTFOUND: status and rows. answer_pack() writes as many bytes as answer_packed_size()
 * says. */
size_t answer_packed_size(const struct answer *answer);
void answer_pack(const struct answer *answer, char *to);

/* False when the bytes, which may come from outside, are no packed answer. A copy, into `mem`. */
bool answer_unpack(struct str from, struct answer *answer, struct arena *mem);

#endif
