/* The list of codecs: a new protocol is a file and a line here. */
#include "front/fronts.h"

const struct codec *const codecs[] = {
	&codec_socketmap, &codec_dict, &codec_tcp, &codec_policy, &codec_sasl, &codec_http, NULL};
