/* Finds codecs by name. */
#include "codec.h"

const struct codec *codec_find(struct str name)
{
	for (size_t i = 0; codecs[i]; i++)
		if (str_eq(str_of(codecs[i]->name), name))
			return codecs[i];
	return NULL;
}
