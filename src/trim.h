/* Gives back the memory that only the start needed. */
#ifndef MAPMUX_TRIM_H
#define MAPMUX_TRIM_H

/* The dynamic linker has touched most pages of every library; what nobody has written to can be
 * read from its file again, should it ever be needed. Takes several megabytes off a daemon that is
 * otherwise small. Any thread; no error matters. */
void trim_memory(void);

#endif
