/* What the parts of the sasl codec share. Private to front_sasl*.c. */
#ifndef MAPMUX_FRONT_SASL_H
#define MAPMUX_FRONT_SASL_H

#include "model/attempts.h"
#include "model/codec.h"

enum mech { MECH_PLAIN, MECH_LOGIN, MECH_XOAUTH2, MECH_OAUTHBEARER, MECHS };

enum {
	SASL_USER = 255, /* bytes of a name */
	SASL_ATTRS = 10, /* of a question */
	SASL_ASKED = 64, /* authentications that wait for their table, ... */
	SASL_WAITING =
		16, /* and that wait for their client; a newer one takes an old one's place */
	SASL_LINE = 16384, /* bytes of a request, with its end */
	SASL_REASON = 200, /* bytes that the user is told */
};

enum on_outage { OUTAGE_CLOSE, OUTAGE_FAIL };

struct sasl_conf {
	struct setting_list mechanisms; /* none: PLAIN LOGIN */
	int on_outage;
	struct attempt_rules attempts;
};

/* Where an exchange is. */
enum stage {
	STAGE_FIRST,     /* waits for the client's first response, ... */
	STAGE_PASSWORD,  /* ... for LOGIN's second one, */
	STAGE_REFUSED,   /* ... or for his word to the error that RFC 7628 tells him */
	STAGE_ASKED,     /* waits for the table */
	STAGE_CANCELLED, /* the table is asked, and nobody wants to know */
};

/* One authentication, from its AUTH line to its answer. */
struct exchange {
	uint32_t id;
	enum mech mech;
	enum stage stage;
	size_t nuser;
	char user[SASL_USER];
	struct str reason;             /* STAGE_REFUSED; in `text` */
	struct pair attrs[SASL_ATTRS]; /* from the AUTH line; their values in `text` */
	size_t nattrs;
	char text[];
};

struct sasl_session {
	size_t looked;    /* so many bytes of an unfinished line hold no end of it */
	unsigned greeted; /* lines of the client's handshake that have come */
	char *response;   /* decoded: holds the password */
	size_t response_size;
	struct attempt attempt;                                /* of the last question */
	struct exchange *exchanges[SASL_ASKED + SASL_WAITING]; /* the oldest first */
	size_t nexchanges;
};

/* What one line of a client leads to. */
struct sasl_step {
	struct sasl_session *session;
	const struct sasl_conf *conf;
	struct message *message;
	struct buf *out;
	const char **why;
};

/* front_sasl_mech.c: what mechanisms are. */
const char *sasl_mech_name(enum mech mech);
bool sasl_mech_find(struct str name, enum mech *mech); /* in any case of letters */
bool sasl_offers(const struct sasl_conf *conf, enum mech mech);

/* The client's response in base64: the next challenge goes out, or the question is asked, or it is refused.
 * The exchange may be gone afterwards. */
enum decoded sasl_respond(struct sasl_step *step, struct exchange *exchange, struct str coded);

/* No initial response: the first challenge. */
enum decoded sasl_challenge(struct sasl_step *step, struct exchange *exchange);

/* front_sasl_reply.c: what the client is told. */
void sasl_greet(void *session, const void *conf, const struct greeting *greeting, struct buf *out);
void sasl_say_cont(struct buf *out, uint32_t id, struct str challenge);
void sasl_say_fail(
	struct buf *out, uint32_t id, struct str user, const char *flags, struct str reason);
const char *sasl_unfit(const void *session, uint64_t tag, const struct answer *answer);
bool sasl_hangs_up(const void *conf, const struct answer *answer);
void sasl_encode(void *session, const void *conf, uint64_t tag, const struct answer *answer,
	struct buf *out);

/* front_sasl.c: the exchanges of a session. */
struct exchange *sasl_find(const struct sasl_session *session, uint64_t id);
void sasl_forget(struct sasl_session *session, struct exchange *exchange);
void sasl_make_room(struct sasl_session *session); /* for one more that waits for its client */

static inline struct str sasl_user(const struct exchange *exchange)
{
	return (struct str){exchange->user, exchange->nuser};
}

#endif
