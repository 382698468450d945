/* The codecs, one for each protocol. */
#ifndef MAPMUX_FRONTS_H
#define MAPMUX_FRONTS_H

#include "model/codec.h"

extern const struct codec codec_socketmap; /* Postfix socketmap_table(5) */
extern const struct codec codec_dict;      /* Dovecot's proxy dict, majors 2 to 4 */
extern const struct codec codec_tcp;       /* Postfix tcp_table(5) */
extern const struct codec codec_policy;    /* Postfix policy delegation */
extern const struct codec codec_sasl;      /* Dovecot's auth client protocol, for Postfix */
extern const struct codec codec_http;      /* no codec but for its settings: web.h serves it */

#endif
