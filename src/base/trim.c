/* Memory goes back to the system: what only the start needed, and later what a large answer has. */
#include "base/trim.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { LARGE = 1 << 20 }; /* bytes: pieces from that size on go back to the system at once */

struct mapping {
	uintptr_t from, to;
	bool is_file;
};

/* The first line of a mapping in proc(5) smaps; the others begin with a word, whose first letters
 * may well be hexadecimal digits. */
static bool read_head(const char *line, struct mapping *mapping)
{
	struct mapping head;
	char rights[5];
	unsigned long inode;
	if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*s %*s %lu", &head.from, &head.to, rights,
		    &inode) != 4)
		return false;
	head.is_file = inode != 0 && rights[1] == '-' && rights[3] == 'p';
	*mapping = head;
	return true;
}

void trim_memory(void)
{
	struct mapping mapping = {0};
	char line[512];
	/* Left to itself malloc() raises this bound with each such piece that is freed, and from then on
	 * keeps what a long iteration has needed. */
	mallopt(M_MMAP_THRESHOLD, LARGE);
	malloc_trim(0);
	FILE *maps = fopen("/proc/self/smaps", "re");
	if (!maps)
		return;
	while (fgets(line, sizeof(line), maps)) {
		unsigned long written;
		if (read_head(line, &mapping))
			continue;
		/* Pages with bytes of our own, relocations say, are "Anonymous": those must stay. */
		if (sscanf(line, "Anonymous: %lu", &written) == 1 && written == 0 &&
			mapping.is_file)
			madvise((void *)mapping.from, mapping.to - mapping.from, MADV_DONTNEED);
	}
	fclose(maps);
}
