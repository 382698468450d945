/* The forms of a key that a table is asked for, one after the other. */
#include "key_forms.h"

#include "model/mail.h"

/* A key in its parts, and what was made of it so far. */
struct forms {
	struct str key, local, domain; /* domain.len 0: none is known */
	const char *delimiters;
	struct arena *mem;
	struct str *to;
	size_t n;
};

const char *key_form_name(enum key_form form)
{
	static const char *const names[KEY_FORM_COUNT] = {
		[KEY_ITSELF] = "key",
		[KEY_WITHOUT_EXTENSION] = "without_extension",
		[KEY_LOCALPART] = "localpart",
		[KEY_AT_DOMAIN] = "@domain",
		[KEY_DOMAIN] = "domain",
		[KEY_PARENT_DOMAINS] = "parent_domains",
	};
	return form < KEY_FORM_COUNT ? names[form] : NULL;
}

static void add(struct forms *forms, struct str text)
{
	for (size_t i = 0; i < forms->n; i++)
		if (str_eq(forms->to[i], text))
			return;
	forms->to[forms->n++] = text;
}

static void add_without_extension(struct forms *forms)
{
	struct str local = mail_without_extension(forms->local, forms->delimiters);
	if (local.len < forms->local.len)
		add(forms, arena_printf(forms->mem, "%.*s@%.*s", (int)local.len, local.ptr,
				   (int)forms->domain.len, forms->domain.ptr));
}

/* As Postfix does where it looks for a user alone: user+extension, user. */
static void add_local(struct forms *forms)
{
	if (forms->local.len == 0)
		return;
	add(forms, forms->local);
	add(forms, mail_without_extension(forms->local, forms->delimiters));
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Of a name in any script. */
static bool is_label_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '-' ||
	       c == '_' || (unsigned char)c >= 0x80;
}

/* Labels with a dot between them, the last one no number: then it is an IPv4 address. */
static bool is_domain(struct str s)
{
	size_t label = 0, digits = 0;
	for (size_t i = 0; i < s.len; i++) {
		bool dot = s.ptr[i] == '.';
		if (dot ? label == 0 : !is_label_byte(s.ptr[i]))
			return false;
		digits = dot ? 0 : digits + is_digit(s.ptr[i]);
		label = dot ? 0 : label + 1;
	}
	return label > digits;
}

static size_t count_labels(struct str domain)
{
	size_t n = 1;
	for (size_t i = 0; i < domain.len; i++)
		n += domain.ptr[i] == '.';
	return n;
}

/* .b.c b.c .c c: the dotted ones are what Postfix's tables call "subdomains of", the others what they
 * do with parent_domain_matches_subdomains. */
static void add_parents(struct forms *forms)
{
	struct str rest = forms->domain, label;
	if (!is_domain(rest))
		return;
	for (size_t labels = count_labels(rest); str_cut(&rest, '.', &label); labels--) {
		if (labels - 1 > KEY_MAX_PARENT_LABELS)
			continue;
		add(forms, (struct str){rest.ptr - 1, rest.len + 1});
		add(forms, rest);
	}
}

static void add_form(struct forms *forms, enum key_form form, bool is_address)
{
	if (form == KEY_ITSELF)
		add(forms, forms->key);
	else if (form == KEY_PARENT_DOMAINS)
		add_parents(forms);
	else if (form == KEY_DOMAIN && forms->domain.len > 0)
		add(forms, forms->domain);
	else if (!is_address)
		return;
	else if (form == KEY_WITHOUT_EXTENSION)
		add_without_extension(forms);
	else if (form == KEY_LOCALPART)
		add_local(forms);
	else if (form == KEY_AT_DOMAIN)
		add(forms, str_skip(forms->key, forms->local.len));
}

size_t key_forms(struct str key, const enum key_form *wanted, size_t n, const char *delimiters,
	struct arena *mem, struct str *to)
{
	struct forms forms = {.key = key, .delimiters = delimiters, .mem = mem, .to = to};
	bool is_address = mail_split(key, &forms.local, &forms.domain) && forms.domain.len > 0;
	/* A key that is a domain has one. "<>", "*", ".example.org" or an address of a network are
	 * none, and only what they are. */
	if (!is_address) {
		forms.local = (struct str){0};
		forms.domain = is_domain(key) ? key : (struct str){0};
	}
	for (size_t i = 0; i < n; i++)
		add_form(&forms, wanted[i], is_address);
	return forms.n;
}
