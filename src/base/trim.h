/* Memory goes back to the system: what only the start needed, and later what a large answer has. */
#ifndef MAPMUX_TRIM_H
#define MAPMUX_TRIM_H

/* The dynamic linker has touched most pages of every library; what nobody has written to can be
 * read from its file again, should it ever be needed. Takes several megabytes off a daemon that is
 * otherwise small. From then on large pieces go back when they are freed. Any thread; no error matters. */
void trim_memory(void);

#endif
