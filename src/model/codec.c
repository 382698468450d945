/* Finds codecs by name. */
#include "model/codec.h"

#include <assert.h>

#include "model/stats.h"

unsigned codec_index(const struct codec *codec)
{
	unsigned i = 0;
	while (codecs[i] != codec)
		i++;
	assert(i < MAX_PROTOCOLS);
	return i;
}

const struct codec *codec_find(struct str name)
{
	for (size_t i = 0; codecs[i]; i++)
		if (str_eq(str_of(codecs[i]->name), name))
			return codecs[i];
	return NULL;
}
