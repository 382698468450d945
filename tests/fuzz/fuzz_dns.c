/* DNS messages: the first byte chooses the type that was asked for, the others are the answer. */
#include <stdlib.h>

#include "engine/resolver_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena mem = {0};
	struct dns_query query = {.mem = &mem};
	if (size == 0)
		return 0;
	unsigned char *message = memory_new(size > 1 ? size - 1 : 1); /* a byte beyond is found */
	memcpy(message, data + 1, size - 1);
	reply_read(&query, data[0] % (DNS_TLSA + 1), message, size - 1);
	if ((query.result == DNS_OK) != (query.n > 0))
		abort();
	if ((query.result == DNS_FAILED) != (query.why.len > 0))
		abort();
	for (size_t i = 0; query.result == DNS_OK && i < query.n; i++)
		if (!query.records[i].data.ptr)
			abort();
	free(message);
	arena_clear(&mem);
	return 0;
}
