/* Sessions of real Dovecot clients and servers, as captured: what the client sent, and what a server
 * that numbers its replies and answers in order sends back. Timing fields are left out, and sessions
 * captured without numbers got some. H3 is Dovecot 2.3.19, H4 is 2.4.4. */
#ifndef DICT_CAPTURES_H
#define DICT_CAPTURES_H

struct capture {
	const char *source; /* file and title of the transcript */
	const char *client, *server;
};

/* clang-format off */
static const struct capture captures[] = {
	{"23-auth-edge: nopassword:true, any password",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/passdb/pnopwtrue\tpnopwtrue\n",
		"*1\n"
		"+1\tO{\"nopassword\":true}\n"},
	{"23-auth-edge: old style: auth test user@domain",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/passdb/alice@example.com\talice@example.com\n",
		"*1\n"
		"+1\tO{\"password\":\"{PLAIN}secret\"}\n"},
	{"23-auth-edge: old style: user",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/userdb/alice@example.com\talice@example.com\n",
		"*1\n"
		"+1\tO{\"uid\":5000,\"gid\":5000,\"home\":\"mail/alice\"}\n"},
	{"23-auth-edge: old style: iterate",
		"H3\t2\t0\t\tdefault/auth\n"
		"I0\t0\tshared/userdb/\t*\n",
		"*1\n"
		"+1\tOshared/userdb/alice\t{\"uid\": 5000, \"gid\": \"5000\", \"home\": \"mai"
		"l/alice\"}\n"
		"+1\tOshared/userdb/alice@example.com\t{\"uid\":5000,\"gid\":5000,\"home"
		"\":\"mail/alice\"}\n"
		"+1\tOshared/userdb/bob\t{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/bob"
		"\"}\n"
		"+1\tOshared/userdb/uarr\t{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/uar"
		"r\", \"arr\": [\"a\", \"b\"]}\n"
		"+1\tOshared/userdb/uempty\t{}\n"
		"+1\tOshared/userdb/uemptykey\t{\"uid\":5000,\"gid\":5000,\"home"
		"\":\"/x\",\"\":\"y\"}\n"
		"+1\tOshared/userdb/uexp\t{\"uid\":5e3,\"gid\":5000,\"home\":\"/x\"}\n"
		"+1\tOshared/userdb/uextra\t{\"uid\":5000,\"gid\":5000,\"home"
		"\":\"/x\"}{\"a\":1}\n"
		"+1\tOshared/userdb/ufloat\t{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/u"
		"float\", \"f\": 1.5, \"neg\": -3, \"big\": 12345678901234567890}\n"
		"+1\tOshared/userdb/unested\t{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/"
		"unested\", \"obj\": {\"a\": 1}}\n"
		"+1\tOshared/userdb/unull\t{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/un"
		"ull\", \"nullf\": null, \"after\": \"x\"}\n"
		"+1\tOshared/userdb/utab\t{\"uid\":5000,\"gid\":5000,\"home"
		"\":\"/x\",\"t\":\"a\\tb\\nc\"}\n"
		"+1\tOshared/userdb/utrue\t{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/ut"
		"rue\", \"flagt\": true, \"flagf\": false}\n"
		"+1\tOshared/userdb/uuni\t{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/uun"
		"i\", \"name\": \"h\\u00e9llo \\u263a\", \"esc\": \"tab\\tquote\\\"back"
		"\\\\slash/\"}\n"
		"+1\t\n"},
	{"23-auth-edge: old style: iterate mask",
		"H3\t2\t0\t\tdefault/auth\n"
		"I0\t0\tshared/userdb/\ta*\n",
		"*1\n"
		"+1\tOshared/userdb/alice\t{\"uid\": 5000, \"gid\": \"5000\", \"home\": \"mai"
		"l/alice\"}\n"
		"+1\tOshared/userdb/alice@example.com\t{\"uid\":5000,\"gid\":5000,\"home"
		"\":\"mail/alice\"}\n"
		"+1\tOshared/userdb/bob\t{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/bob"
		"\"}\n"
		"+1\tOshared/userdb/uarr\t{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/uar"
		"r\", \"arr\": [\"a\", \"b\"]}\n"
		"+1\tOshared/userdb/uempty\t{}\n"
		"+1\tOshared/userdb/uemptykey\t{\"uid\":5000,\"gid\":5000,\"home"
		"\":\"/x\",\"\":\"y\"}\n"
		"+1\tOshared/userdb/uexp\t{\"uid\":5e3,\"gid\":5000,\"home\":\"/x\"}\n"
		"+1\tOshared/userdb/uextra\t{\"uid\":5000,\"gid\":5000,\"home"
		"\":\"/x\"}{\"a\":1}\n"
		"+1\tOshared/userdb/ufloat\t{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/u"
		"float\", \"f\": 1.5, \"neg\": -3, \"big\": 12345678901234567890}\n"
		"+1\tOshared/userdb/unested\t{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/"
		"unested\", \"obj\": {\"a\": 1}}\n"
		"+1\tOshared/userdb/unull\t{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/un"
		"ull\", \"nullf\": null, \"after\": \"x\"}\n"
		"+1\tOshared/userdb/utab\t{\"uid\":5000,\"gid\":5000,\"home"
		"\":\"/x\",\"t\":\"a\\tb\\nc\"}\n"
		"+1\tOshared/userdb/utrue\t{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/ut"
		"rue\", \"flagt\": true, \"flagf\": false}\n"
		"+1\tOshared/userdb/uuni\t{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/uun"
		"i\", \"name\": \"h\\u00e9llo \\u263a\", \"esc\": \"tab\\tquote\\\"back"
		"\\\\slash/\"}\n"
		"+1\t\n"},
	{"23-auth-edge: auth test (slow6)",
		"H3\t2\t0\t\tslow6\n"
		"Lshared/passdb/alice\talice\n",
		"*1\n"
		"+1\tO{\"password\":\"{PLAIN}secret\"}\n"},
	{"23-auth-edge2: user iterate with iterate_prefix = it/fail/",
		"H3\t2\t0\t\tdefault/auth\n"
		"I0\t0\tshared/it/fail/\t*\n",
		"*1\n"
		"+1\tFiter broke\n"},
	{"23-auth-edge2: passdb lookup answered 'multi'",
		"H3\t2\t0\t\tsync\n"
		"Lshared/t/multi\talice\n",
		"*1\n"
		"+1\tMone\001ttw\0011to\001tthree\n"},
	{"23-auth-json: passdb pnum",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/passdb/pnum\tpnum\n",
		"*1\n"
		"+1\tO{\"password\":12345}\n"},
	{"23-auth-json: passdb pbad",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/passdb/pbad\tpbad\n",
		"*1\n"
		"+1\tOnot json\n"},
	{"23-auth-json: passdb parr",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/passdb/parr\tparr\n",
		"*1\n"
		"+1\tO{\"password\":\"{PLAIN}secret\",\"x\":[\"a\",\"b\"]}\n"},
	{"23-auth-json: passdb pdup",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/passdb/pdup\tpdup\n",
		"*1\n"
		"+1\tO{\"password\":\"{PLAIN}one\",\"password\":\"{PLAIN}secret\"}\n"},
	{"23-auth-json: userdb ufloat",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/userdb/ufloat\tufloat\n"
		"Lshared/userdb/ufloat/quota\tufloat\n",
		"*1\n"
		"+1\tO{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/ufloat\", \"f\": 1.5, "
		"\"neg\": -3, \"big\": 12345678901234567890}\n"
		"*2\n"
		"+2\tN\n"},
	{"23-auth-json: userdb uuni",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/userdb/uuni\tuuni\n"
		"Lshared/userdb/uuni/quota\tuuni\n",
		"*1\n"
		"+1\tO{\"uid\": 5000, \"gid\": 5000, \"home\": \"mail/uuni\", \"name"
		"\": \"h\\u00e9llo \\u263a\", \"esc\": \"tab\\tquote\\\"back\\\\slash/\"}\n"
		"*2\n"
		"+2\tN\n"},
	{"23-auth-json: userdb uextra",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/userdb/uextra\tuextra\n"
		"Lshared/userdb/uextra/quota\tuextra\n",
		"*1\n"
		"+1\tO{\"uid\":5000,\"gid\":5000,\"home\":\"/x\"}{\"a\":1}\n"
		"*2\n"
		"+2\tN\n"},
	{"23-auth-password-in-key: plain password",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/passdb/alice/192.0.2.1/imap/secret\talice\n",
		"*1\n"
		"+1\tN\n"},
	{"23-auth-password-in-key: password with non-ASCII",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/passdb/alice/192.0.2.1/doveadm/p\303\244ss\talice\n",
		"*1\n"
		"+1\tN\n"},
	{"23-auth-password-in-key: password with slash",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/passdb/alice/192.0.2.1/doveadm/a/b/c\talice\n",
		"*1\n"
		"+1\tN\n"},
	{"23-auth-password-in-key: password with percent",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/passdb/alice/192.0.2.1/doveadm/a%25u b\talice\n",
		"*1\n"
		"+1\tN\n"},
	{"23-auth-password-in-key: password with backslash",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/passdb/alice/192.0.2.1/doveadm/a\\\\b|c\talice\n",
		"*1\n"
		"+1\tN\n"},
	{"23-auth: auth test (unknown user)",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/passdb/carol\tcarol\n",
		"*1\n"
		"+1\tN\n"},
	{"23-auth: user lookup alice (quota default_value)",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/userdb/alice\talice\n"
		"Lshared/userdb/alice/quota\talice\n",
		"*1\n"
		"+1\tO{\"uid\":5000,\"gid\":\"5000\",\"home\":\"mail/alice\"}\n"
		"*2\n"
		"+2\tN\n"},
	{"23-auth: user lookup bob (own quota key)",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/userdb/bob\tbob\n"
		"Lshared/userdb/bob/quota\tbob\n",
		"*1\n"
		"+1\tO{\"uid\":5000,\"gid\":5000,\"home\":\"mail/bob\"}\n"
		"*2\n"
		"+2\tO5M\n"},
	{"23-auth: user lookup unknown",
		"H3\t2\t0\t\tdefault/auth\n"
		"Lshared/userdb/carol\tcarol\n",
		"*1\n"
		"+1\tN\n"},
	{"23-doveadm-dict: get found",
		"H3\t2\t0\t\tsync\n"
		"Lshared/x/a\t\n",
		"*1\n"
		"+1\tO1\n"},
	{"23-doveadm-dict: get -u",
		"H3\t2\t0\t\tsync\n"
		"Lpriv/p/a\talice\n",
		"*1\n"
		"+1\tOpa\n"},
	{"23-doveadm-dict: get not found",
		"H3\t2\t0\t\tsync\n"
		"Lshared/t/n\t\n",
		"*1\n"
		"+1\tN\n"},
	{"23-doveadm-dict: set",
		"H3\t2\t0\t\tsync\n"
		"B1\t\n"
		"S1\tshared/x/new\tnewvalue\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"23-doveadm-dict: set -u priv",
		"H3\t2\t0\t\tsync\n"
		"B1\talice\n"
		"S1\tpriv/p/new\ttab\001there\001nnl\0011soh\001rcr\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"23-doveadm-dict: get back",
		"H3\t2\t0\t\tsync\n"
		"Lpriv/p/new\talice\n",
		"*1\n"
		"+1\tOtab\001there\001nnl\0011soh\001rcr\n"},
	{"23-doveadm-dict: unset",
		"H3\t2\t0\t\tsync\n"
		"B1\t\n"
		"U1\tshared/x/new\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"23-doveadm-dict: inc",
		"H3\t2\t0\t\tsync\n"
		"B1\t\n"
		"A1\tshared/n/counter\t5\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"23-doveadm-dict: inc negative",
		"H3\t2\t0\t\tsync\n"
		"B1\t\n"
		"A1\tshared/n/counter\t-3\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"23-doveadm-dict: inc missing key",
		"H3\t2\t0\t\tsync\n"
		"B1\t\n"
		"A1\tshared/n/missing\t5\n"
		"C1\n",
		"*1\n"
		"+1\tN1\n"},
	{"23-doveadm-dict: iter",
		"H3\t2\t0\t\tsync\n"
		"I0\t0\tshared/x/\t\n",
		"*1\n"
		"+1\tOshared/x/a\t1\n"
		"+1\tOshared/x/b\t2\n"
		"+1\t\n"},
	{"23-doveadm-dict: iter -1",
		"H3\t2\t0\t\tsync\n"
		"I16\t0\tshared/x\t\n",
		"*1\n"
		"+1\tOshared/x\tself\n"
		"+1\t\n"},
	{"23-doveadm-dict: iter -R -V -u",
		"H3\t2\t0\t\tsync\n"
		"I9\t0\tpriv/\talice\n",
		"*1\n"
		"+1\tOpriv/p/a\t\n"
		"+1\tOpriv/p/new\t\n"
		"+1\t\n"},
	{"23-doveadm-dict: iter nothing",
		"H3\t2\t0\t\tsync\n"
		"I0\t0\tshared/nothing/\t\n",
		"*1\n"
		"+1\t\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/last_login\n"
		"B1\talice\n"
		"S1\tshared/last-login/alice\t1795251331\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/acl\n"
		"I1\t0\tshared/shared-boxes/\talice\n",
		"*1\n"
		"+1\t\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/attr\n"
		"B1\talice\n"
		"S1\tpriv/c8a08e08855c016bcf57000083ecc375/comment\tmy private comment\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/attr\n"
		"B2\talice\n"
		"S2\tshared/c8a08e08855c016bcf57000083ecc375/comment\tshared \"c\" back\\slas"
		"h\n"
		"C2\n",
		"*1\n"
		"+1\tO2\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/attr\n"
		"B3\talice\n"
		"S3\tpriv/c8a08e08855c016bcf57000083ecc375/vendor/x/y\t1\n"
		"S3\tpriv/c8a08e08855c016bcf57000083ecc375/vendor/x/z\t2\n"
		"B4\talice\n"
		"S4\tshared/c8a08e08855c016bcf57000083ecc375/vendor/x\t3\n"
		"C3\n"
		"C4\n",
		"*1\n"
		"+1\tO3\n"
		"*2\n"
		"+2\tO4\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/attr\n"
		"Lpriv/c8a08e08855c016bcf57000083ecc375/comment\talice\n"
		"Lshared/c8a08e08855c016bcf57000083ecc375/comment\talice\n",
		"*1\n"
		"+1\tOmy private comment\n"
		"*2\n"
		"+2\tOshared \"c\" back\\slash\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/attr\n"
		"Lpriv/c8a08e08855c016bcf57000083ecc375/nothing\talice\n",
		"*1\n"
		"+1\tN\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/attr\n"
		"Lpriv/c8a08e08855c016bcf57000083ecc375/vendor\talice\n"
		"I9\t0\tpriv/c8a08e08855c016bcf57000083ecc375/vendor/\talice\n"
		"Lpriv/c8a08e08855c016bcf57000083ecc375/vendor/x/y\talice\n"
		"Lpriv/c8a08e08855c016bcf57000083ecc375/vendor/x/z\talice\n",
		"*1\n"
		"+1\tN\n"
		"*2\n"
		"+2\tOpriv/c8a08e08855c016bcf57000083ecc375/vendor/x/y\t\n"
		"+2\tOpriv/c8a08e08855c016bcf57000083ecc375/vendor/x/z\t\n"
		"+2\t\n"
		"*3\n"
		"+3\tO1\n"
		"*4\n"
		"+4\tO2\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/attr\n"
		"Lpriv/c8a08e08855c016bcf57000083ecc375/vendor/x\talice\n"
		"I9\t0\tpriv/c8a08e08855c016bcf57000083ecc375/vendor/x/\talice\n"
		"Lpriv/c8a08e08855c016bcf57000083ecc375/vendor/x/y\talice\n"
		"Lpriv/c8a08e08855c016bcf57000083ecc375/vendor/x/z\talice\n",
		"*1\n"
		"+1\tN\n"
		"*2\n"
		"+2\tOpriv/c8a08e08855c016bcf57000083ecc375/vendor/x/y\t\n"
		"+2\tOpriv/c8a08e08855c016bcf57000083ecc375/vendor/x/z\t\n"
		"+2\t\n"
		"*3\n"
		"+3\tO1\n"
		"*4\n"
		"+4\tO2\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/attr\n"
		"B5\talice\n"
		"S5\tpriv/c8a08e08855c016bcf57000083ecc375/vendor/vendor.dovecot/pvt/server/c"
		"omment\tserver private\n"
		"C5\n",
		"*1\n"
		"+1\tO5\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/attr\n"
		"Lpriv/c8a08e08855c016bcf57000083ecc375/vendor/vendor.dovecot/pvt/server/comm"
		"ent\talice\n",
		"*1\n"
		"+1\tOserver private\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/attr\n"
		"B6\talice\n"
		"U6\tpriv/c8a08e08855c016bcf57000083ecc375/comment\n"
		"C6\n",
		"*1\n"
		"+1\tO6\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/attr\n"
		"B7\talice\n"
		"S7\tpriv/c8a08e08855c016bcf57000083ecc375/mixedcase/name\tv\n"
		"C7\n",
		"*1\n"
		"+1\tO7\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/attr\n"
		"B8\talice\n"
		"S8\tpriv/c8a08e08855c016bcf57000083ecc375/big\tline1\001r\001nln2\n"
		"C8\n",
		"*1\n"
		"+1\tO8\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/notify_status\n"
		"B1\talice\n"
		"S1\tpriv/status/Box\t{\"messages\":0,\"unseen\":0}\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/attr\n"
		"B9\talice\n"
		"S9\tpriv/c8be8e1c8e5c016bcf57000083ecc375/comment\tboxc\n"
		"C9\n",
		"*1\n"
		"+1\tO9\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/acl\n"
		"I1\t0\tshared/shared-boxes/\talice\n"
		"B1\talice\n"
		"S1\tshared/shared-boxes/user/bob/alice\t1\n"
		"C1\n",
		"*1\n"
		"+1\t\n"
		"*2\n"
		"+2\tO1\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/acl\n"
		"I1\t0\tshared/shared-boxes/\talice\n"
		"B2\talice\n"
		"U2\tshared/shared-boxes/user/bob/alice\n"
		"C2\n",
		"*1\n"
		"+1\tOshared/shared-boxes/user/bob/alice\t1\n"
		"+1\t\n"
		"*2\n"
		"+2\tO2\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/acl\n"
		"I1\t0\tshared/shared-boxes/anyone/\talice\n"
		"I1\t0\tshared/shared-boxes/user/alice/\talice\n",
		"*1\n"
		"+1\t\n"
		"*2\n"
		"+2\t\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/notify_status\n"
		"B2\talice\n"
		"U2\tpriv/status/Box\n"
		"C2\n"
		"B3\talice\n"
		"S3\tpriv/status/Box2/Sub\t{\"messages\":0,\"unseen\":0}\n"
		"C3\n",
		"*1\n"
		"+1\tO2\n"
		"*2\n"
		"+2\tO3\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/attr\n"
		"I9\t0\tpriv/c8be8e1c8e5c016bcf57000083ecc375/\talice\n"
		"B10\talice\n"
		"U10\tpriv/c8be8e1c8e5c016bcf57000083ecc375/comment\n"
		"I9\t0\tshared/c8be8e1c8e5c016bcf57000083ecc375/\talice\n"
		"B11\talice\n"
		"U11\tshared/c8be8e1c8e5c016bcf57000083ecc375/comment\n"
		"C10\n"
		"C11\n",
		"*1\n"
		"+1\tOpriv/c8be8e1c8e5c016bcf57000083ecc375/comment\t\n"
		"+1\t\n"
		"*2\n"
		"+2\t\n"
		"*3\n"
		"+3\tO10\n"
		"*4\n"
		"+4\tO11\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/notify_status\n"
		"B4\talice\n"
		"U4\tpriv/status/Box2/Sub\n"
		"C4\n",
		"*1\n"
		"+1\tO4\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/notify_status\n"
		"B1\talice\n"
		"S1\tpriv/status/INBOX\t{\"messages\":1,\"unseen\":1}\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"23-mail-features",
		"H3\t2\t0\t\tdefault/quota_clone\n"
		"B1\talice\n"
		"S1\tpriv/quota/storage\t243\n"
		"S1\tpriv/quota/messages\t1\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"23-reference-server: basic session",
		"H3\t2\t0\t\tf\n"
		"B1\t\n"
		"S1\tshared/a\t1\n"
		"S1\tshared/b\ttab\001there\n"
		"S1\tshared/sub/c\t3\n"
		"C1\n"
		"Lshared/a\t\n"
		"Lshared/b\t\n"
		"Lshared/none\t\n"
		"I0\t0\tshared/\t\n"
		"I1\t0\tshared/\t\n"
		"I9\t0\tshared/\t\n"
		"I16\t0\tshared/a\t\n"
		"I1\t1\tshared/\t\n"
		"I0\t0\tshared/nothing/\t\n",
		"*1\n"
		"+1\tO1\n"
		"*2\n"
		"+2\tO1\n"
		"*3\n"
		"+3\tOtab\001there\n"
		"*4\n"
		"+4\tN\n"
		"*5\n"
		"+5\tOshared/b\ttab\001there\n"
		"+5\tOshared/a\t1\n"
		"+5\t\n"
		"*6\n"
		"+6\tOshared/b\ttab\001there\n"
		"+6\tOshared/a\t1\n"
		"+6\tOshared/sub/c\t3\n"
		"+6\t\n"
		"*7\n"
		"+7\tOshared/b\t\n"
		"+7\tOshared/a\t\n"
		"+7\tOshared/sub/c\t\n"
		"+7\t\n"
		"*8\n"
		"+8\tOshared/a\t1\n"
		"+8\t\n"
		"*9\n"
		"+9\tOshared/b\ttab\001there\n"
		"+9\t\n"
		"*10\n"
		"+10\t\n"},
	{"23-reference-server: timestamp and private keys (file dict ignores the user)",
		"H3\t2\t0\t\tf\n"
		"B1\talice\n"
		"T1\t1700000000\t123\n"
		"S1\tpriv/x\tv\n"
		"C1\n"
		"Lpriv/x\talice\n"
		"Lpriv/x\tbob\n",
		"*1\n"
		"+1\tO1\n"
		"*2\n"
		"+2\tOv\n"
		"*3\n"
		"+3\tOv\n"},
	{"23-reference-server: pipelined commands",
		"H3\t2\t0\t\tf\n"
		"Lshared/a\t\n"
		"Lshared/b\t\n"
		"I1\t0\tshared/\t\n"
		"Lshared/a\t\n",
		"*1\n"
		"+1\tO6\n"
		"*2\n"
		"+2\tN\n"
		"*3\n"
		"+3\tOshared/a\t6\n"
		"+3\tOshared/sub/c\t3\n"
		"+3\t\n"
		"*4\n"
		"+4\tO6\n"},
	{"23-reference-server: CRLF line end",
		"H3\t2\t0\t\tf\n"
		"Lshared/a\t\r\n",
		"*1\n"
		"+1\tO6\n"},
	{"23-reference-server: proxy chain, upstream style ooo",
		"H3\t2\t0\t\tooo\n"
		"Lshared/q1\t\n"
		"Lshared/q2\t\n"
		"Lshared/q3\t\n",
		"*1\n"
		"+1\tOanswer-for-shared/q1\n"
		"*2\n"
		"+2\tOanswer-for-shared/q2\n"
		"*3\n"
		"+3\tOanswer-for-shared/q3\n"},
	{"23-reference-server: Dovecot dict service (2.3.19.1) chained to another dict server",
		"H3\t2\t0\t\tchain\n"
		"I1\t5\tshared/x/\tbob\n"
		"Lpriv/p/a\tbob\n"
		"B7\tbob\n"
		"S7\tpriv/q\tv\n"
		"C7\n",
		"*1\n"
		"+1\tOshared/x/a\t1\n"
		"+1\tOshared/x/b\t2\n"
		"+1\tOshared/x/sub/c\t3\n"
		"+1\t\n"
		"*2\n"
		"+2\tOpb\n"
		"*3\n"
		"+3\tO7\n"},
	{"23-reference-server: Dovecot dict service (2.3.19.1) chained to another dict server",
		"H3\t2\t0\t\tdefault/chained\n"
		"I33\t5\tshared/x/\tbob\n",
		"*1\n"
		"+1\tOshared/x/a\t1\n"
		"+1\tOshared/x/b\t2\n"
		"+1\tOshared/x/sub/c\t3\n"
		"+1\t\n"},
	{"23-reference-server: Dovecot dict service (2.3.19.1) chained to another dict server",
		"H3\t2\t0\t\tdefault/chained\n"
		"Lpriv/p/a\tbob\n",
		"*1\n"
		"+1\tOpb\n"},
	{"23-reference-server: Dovecot dict service (2.3.19.1) chained to another dict server",
		"H3\t2\t0\t\tdefault/chained\n"
		"B1\tbob\n"
		"S1\tpriv/q\tv\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"23-sieve-quota-urlauth",
		"H3\t2\t0\t\tdefault/sieve\n"
		"Lpriv/sieve/name/active\talice\n"
		"Lpriv/sieve/data/17\talice\n",
		"*1\n"
		"+1\tO17\n"
		"*2\n"
		"+2\tOrequire [\"fileinto\",\"mailbox\"];\001nfileinto :create \"Junk\";\001n"
		"\n"},
	{"23-sieve-quota-urlauth",
		"H3\t2\t0\t\tdefault/quota\n"
		"Lpriv/quota/storage\talice\n"
		"B1\talice\n"
		"U1\tpriv/quota/storage\n"
		"U1\tpriv/quota/messages\n"
		"S1\tpriv/quota/storage\t0\n"
		"S1\tpriv/quota/messages\t0\n"
		"C1\n"
		"B2\talice\n"
		"A2\tpriv/quota/storage\t243\n"
		"A2\tpriv/quota/messages\t1\n"
		"C2\n",
		"*1\n"
		"+1\tN\n"
		"*2\n"
		"+2\tO1\n"
		"*3\n"
		"+3\tO2\n"},
	{"23-sieve-quota-urlauth",
		"H3\t2\t0\t\tdefault/quota\n"
		"Lpriv/quota/storage\talice\n"
		"B1\talice\n"
		"A1\tpriv/quota/storage\t243\n"
		"A1\tpriv/quota/messages\t1\n"
		"C1\n",
		"*1\n"
		"+1\tO243\n"
		"*2\n"
		"+2\tO1\n"},
	{"23-sieve-quota-urlauth",
		"H3\t2\t0\t\tdefault/quota\n"
		"Lpriv/quota/storage\talice\n"
		"Lpriv/quota/messages\talice\n",
		"*1\n"
		"+1\tO486\n"
		"*2\n"
		"+2\tO2\n"},
	{"23-sieve-quota-urlauth",
		"H3\t2\t0\t\tdefault/attr\n"
		"Lpriv/0033da38e65c016b2b78000083ecc375/vendor/vendor.dovecot/imap-urlauth"
		"\talice\n"
		"B1\talice\n"
		"S1\tpriv/0033da38e65c016b2b78000083ecc375/vendor/vendor.dovecot/imap-urlauth"
		"\tf0e6972b07f4729f464d0d837a1e39cfd3948b22548e9ccebf2925b87b9920612b606ec894"
		"38ca87405df03d1b46b1b3cee1ed96323124ceed1ae4a8a7d68c71\n"
		"C1\n",
		"*1\n"
		"+1\tN\n"
		"*2\n"
		"+2\tO1\n"},
	{"23-sieve-quota-urlauth",
		"H3\t2\t0\t\tdefault/attr\n"
		"Lpriv/0033da38e65c016b2b78000083ecc375/vendor/vendor.dovecot/imap-urlauth"
		"\talice\n",
		"*1\n"
		"+1\tOf0e6972b07f4729f464d0d837a1e39cfd3948b22548e9ccebf2925b87b9920612b606ec"
		"89438ca87405df03d1b46b1b3cee1ed96323124ceed1ae4a8a7d68c71\n"},
	{"23-sieve-quota-urlauth",
		"H3\t2\t0\t\tdefault/attr\n"
		"B2\talice\n"
		"U2\tpriv/0033da38e65c016b2b78000083ecc375/vendor/vendor.dovecot/imap-urlauth"
		"\n"
		"C2\n",
		"*1\n"
		"+1\tO2\n"},
	{"23-sieve-quota-urlauth",
		"H3\t2\t0\t\tdefault/quota\n"
		"B1\talice\n"
		"A1\tpriv/quota/storage\t-486\n"
		"A1\tpriv/quota/messages\t-2\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-acl-index-idle-urlauth",
		"H4\t0\t0\t\tdefault/last_login\n"
		"B1\talice\t0\n"
		"S1\tshared/last-login/alice\t1795253037\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-acl-index-idle-urlauth",
		"H4\t0\t0\t\tdefault/notify_status\n"
		"B1\talice\t0\n"
		"S1\tpriv/status/Box\t{\"messages\":0,\"unseen\":0}\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-acl-index-idle-urlauth",
		"H4\t0\t0\t\tdefault/acl\n"
		"Lshared/shared-boxes/anyone/alice\talice\n"
		"I1\t0\tshared/shared-user-boxes-rev/alice/\talice\n"
		"B1\talice\t0\n"
		"S1\tshared/shared-boxes/user/bob/alice\t1\n"
		"C1\n",
		"*1\n"
		"+1\tN\n"
		"*2\n"
		"+2\t\n"
		"*3\n"
		"+3\tO1\n"},
	{"24-acl-index-idle-urlauth",
		"H4\t0\t0\t\tdefault/acl\n"
		"Lshared/shared-boxes/anyone/alice\talice\n"
		"I1\t0\tshared/shared-user-boxes-rev/alice/\talice\n"
		"B2\talice\t0\n"
		"S2\tshared/shared-boxes/user/bob/alice\t1\n"
		"C2\n"
		"B3\talice\t0\n"
		"S3\tshared/shared-boxes/user/carol/alice\t1\n"
		"C3\n",
		"*1\n"
		"+1\tN\n"
		"*2\n"
		"+2\t\n"
		"*3\n"
		"+3\tO2\n"
		"*4\n"
		"+4\tO3\n"},
	{"24-acl-index-idle-urlauth",
		"H4\t0\t0\t\tdefault/acl\n"
		"Lshared/shared-boxes/anyone/alice\talice\n"
		"I1\t0\tshared/shared-user-boxes-rev/alice/\talice\n"
		"B4\talice\t0\n"
		"S4\tshared/shared-boxes/user/carol/alice\t1\n"
		"C4\n",
		"*1\n"
		"+1\tN\n"
		"*2\n"
		"+2\t\n"
		"*3\n"
		"+3\tO4\n"},
	{"24-acl-index-idle-urlauth",
		"H4\t0\t0\t\tdefault/acl\n"
		"I1\t0\tshared/shared-boxes/anyone/\talice\n"
		"I1\t0\tshared/shared-boxes/user/alice/\talice\n",
		"*1\n"
		"+1\t\n"
		"*2\n"
		"+2\t\n"},
	{"24-acl-index-idle-urlauth",
		"H4\t0\t0\t\tdefault/attr\n"
		"B1\talice\t0\n"
		"S1\tpriv/10e49b152e63016bd85a000083ecc375/comment\tx\n"
		"C1\n"
		"Lpriv/10e49b152e63016bd85a000083ecc375/comment\talice\n",
		"*1\n"
		"+1\tO1\n"
		"*2\n"
		"+2\tOx\n"},
	{"24-acl-index-idle-urlauth",
		"H4\t0\t0\t\tdefault/attr\n"
		"Lpriv/10e49b152e63016bd85a000083ecc375/comment\talice\n"
		"I9\t0\tpriv/10e49b152e63016bd85a000083ecc375/\talice\n"
		"I9\t0\tshared/10e49b152e63016bd85a000083ecc375/\talice\n"
		"B2\talice\t0\n"
		"U2\tpriv/10e49b152e63016bd85a000083ecc375/comment\n"
		"C2\n"
		"B3\talice\t0\n"
		"U3\tshared/10e49b152e63016bd85a000083ecc375/comment\n"
		"C3\n",
		"*1\n"
		"+1\tOx\n"
		"*2\n"
		"+2\tOpriv/10e49b152e63016bd85a000083ecc375/comment\t\n"
		"+2\t\n"
		"*3\n"
		"+3\t\n"
		"*4\n"
		"+4\tO2\n"
		"*5\n"
		"+5\tO3\n"},
	{"24-acl-index-idle-urlauth",
		"H4\t0\t0\t\tdefault/notify_status\n"
		"B2\talice\t0\n"
		"U2\tpriv/status/Box\n"
		"C2\n",
		"*1\n"
		"+1\tO2\n"},
	{"24-doveadm-dict: get found",
		"H4\t0\t0\t\tsync\n"
		"Lshared/x/a\t\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-doveadm-dict: get -u",
		"H4\t0\t0\t\tsync\n"
		"Lpriv/p/a\talice\n",
		"*1\n"
		"+1\tOpa\n"},
	{"24-doveadm-dict: get not found",
		"H4\t0\t0\t\tsync\n"
		"Lshared/t/n\t\n",
		"*1\n"
		"+1\tN\n"},
	{"24-doveadm-dict: set",
		"H4\t0\t0\t\tsync\n"
		"B1\t\t0\n"
		"S1\tshared/x/new\tnewvalue\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-doveadm-dict: set -u priv",
		"H4\t0\t0\t\tsync\n"
		"B1\talice\t0\n"
		"S1\tpriv/p/new\ttab\001there\001nnl\0011soh\001rcr\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-doveadm-dict: get back",
		"H4\t0\t0\t\tsync\n"
		"Lpriv/p/new\talice\n",
		"*1\n"
		"+1\tOtab\001there\001nnl\0011soh\001rcr\n"},
	{"24-doveadm-dict: set -t timestamp -e expire",
		"H4\t0\t0\t\tsync\n"
		"B1\t\t3600\n"
		"T1\t1700000000\t123456789\n"
		"S1\tshared/x/new2\tv\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-doveadm-dict: unset",
		"H4\t0\t0\t\tsync\n"
		"B1\t\t0\n"
		"U1\tshared/x/new\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-doveadm-dict: unset -t",
		"H4\t0\t0\t\tsync\n"
		"B1\t\t0\n"
		"T1\t1700000000\t1\n"
		"U1\tshared/x/new2\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-doveadm-dict: inc",
		"H4\t0\t0\t\tsync\n"
		"B1\t\t0\n"
		"A1\tshared/n/counter\t5\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-doveadm-dict: inc negative",
		"H4\t0\t0\t\tsync\n"
		"B1\t\t0\n"
		"A1\tshared/n/counter\t-3\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-doveadm-dict: inc missing key",
		"H4\t0\t0\t\tsync\n"
		"B1\t\t0\n"
		"A1\tshared/n/missing\t5\n"
		"C1\n",
		"*1\n"
		"+1\tN1\n"},
	{"24-doveadm-dict: iter",
		"H4\t0\t0\t\tsync\n"
		"I0\t0\tshared/x/\t\n",
		"*1\n"
		"+1\tOshared/x/a\t1\n"
		"+1\tOshared/x/b\t2\n"
		"+1\t\n"},
	{"24-doveadm-dict: iter -1",
		"H4\t0\t0\t\tsync\n"
		"I16\t0\tshared/x\t\n",
		"*1\n"
		"+1\tOshared/x\tself\n"
		"+1\t\n"},
	{"24-doveadm-dict: iter -R -V -u",
		"H4\t0\t0\t\tsync\n"
		"I9\t0\tpriv/\talice\n",
		"*1\n"
		"+1\tOpriv/p/a\t\n"
		"+1\tOpriv/p/new\t\n"
		"+1\t\n"},
	{"24-doveadm-dict: iter nothing",
		"H4\t0\t0\t\tsync\n"
		"I0\t0\tshared/nothing/\t\n",
		"*1\n"
		"+1\t\n"},
	{"24-fs-dict",
		"H4\t0\t0\t\tdefault/fs\n"
		"B1\t\t0\n"
		"S1\tshared/x/f\taGVsbG8=\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/acl\n"
		"I1\t0\tshared/shared-boxes/\talice\n",
		"*1\n"
		"+1\t\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/notify_status\n"
		"B1\talice\t0\n"
		"S1\tpriv/status/INBOX\t{\"messages\":0,\"unseen\":0}\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/attr\n"
		"B1\talice\t0\n"
		"S1\tpriv/c0d12205605f016b1322000083ecc375/comment\tmy private comment\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/attr\n"
		"B2\talice\t0\n"
		"S2\tshared/c0d12205605f016b1322000083ecc375/comment\tshared \"c\" back\\slas"
		"h\n"
		"C2\n",
		"*1\n"
		"+1\tO2\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/attr\n"
		"B3\talice\t0\n"
		"S3\tpriv/c0d12205605f016b1322000083ecc375/vendor/x/y\t1\n"
		"S3\tpriv/c0d12205605f016b1322000083ecc375/vendor/x/z\t2\n"
		"C3\n"
		"B4\talice\t0\n"
		"S4\tshared/c0d12205605f016b1322000083ecc375/vendor/x\t3\n"
		"C4\n",
		"*1\n"
		"+1\tO3\n"
		"*2\n"
		"+2\tO4\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/attr\n"
		"Lpriv/c0d12205605f016b1322000083ecc375/comment\talice\n"
		"Lshared/c0d12205605f016b1322000083ecc375/comment\talice\n",
		"*1\n"
		"+1\tOmy private comment\n"
		"*2\n"
		"+2\tOshared \"c\" back\\slash\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/attr\n"
		"Lpriv/c0d12205605f016b1322000083ecc375/nothing\talice\n",
		"*1\n"
		"+1\tN\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/attr\n"
		"Lpriv/c0d12205605f016b1322000083ecc375/vendor\talice\n"
		"I9\t0\tpriv/c0d12205605f016b1322000083ecc375/vendor/\talice\n"
		"Lpriv/c0d12205605f016b1322000083ecc375/vendor/x/y\talice\n"
		"Lpriv/c0d12205605f016b1322000083ecc375/vendor/x/z\talice\n",
		"*1\n"
		"+1\tN\n"
		"*2\n"
		"+2\tOpriv/c0d12205605f016b1322000083ecc375/vendor/x/y\t\n"
		"+2\tOpriv/c0d12205605f016b1322000083ecc375/vendor/x/z\t\n"
		"+2\t\n"
		"*3\n"
		"+3\tO1\n"
		"*4\n"
		"+4\tO2\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/attr\n"
		"Lpriv/c0d12205605f016b1322000083ecc375/vendor/x\talice\n"
		"I9\t0\tpriv/c0d12205605f016b1322000083ecc375/vendor/x/\talice\n"
		"Lpriv/c0d12205605f016b1322000083ecc375/vendor/x/y\talice\n"
		"Lpriv/c0d12205605f016b1322000083ecc375/vendor/x/z\talice\n",
		"*1\n"
		"+1\tN\n"
		"*2\n"
		"+2\tOpriv/c0d12205605f016b1322000083ecc375/vendor/x/y\t\n"
		"+2\tOpriv/c0d12205605f016b1322000083ecc375/vendor/x/z\t\n"
		"+2\t\n"
		"*3\n"
		"+3\tO1\n"
		"*4\n"
		"+4\tO2\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/attr\n"
		"B5\talice\t0\n"
		"S5\tpriv/c0d12205605f016b1322000083ecc375/vendor/vendor.dovecot/pvt/server/c"
		"omment\tserver private\n"
		"C5\n",
		"*1\n"
		"+1\tO5\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/attr\n"
		"Lpriv/c0d12205605f016b1322000083ecc375/vendor/vendor.dovecot/pvt/server/comm"
		"ent\talice\n",
		"*1\n"
		"+1\tOserver private\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/attr\n"
		"B6\talice\t0\n"
		"U6\tpriv/c0d12205605f016b1322000083ecc375/comment\n"
		"C6\n",
		"*1\n"
		"+1\tO6\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/attr\n"
		"B7\talice\t0\n"
		"S7\tpriv/c0d12205605f016b1322000083ecc375/mixedcase/name\tv\n"
		"C7\n",
		"*1\n"
		"+1\tO7\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/attr\n"
		"B8\talice\t0\n"
		"S8\tpriv/c0d12205605f016b1322000083ecc375/big\tline1\001r\001nln2\n"
		"C8\n",
		"*1\n"
		"+1\tO8\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/attr\n"
		"B9\talice\t0\n"
		"S9\tpriv/78105e19695f016b1322000083ecc375/comment\tboxc\n"
		"C9\n",
		"*1\n"
		"+1\tO9\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/acl\n"
		"I1\t0\tshared/shared-boxes/\talice\n"
		"B1\talice\t0\n"
		"S1\tshared/shared-boxes/user/bob/alice\t1\n"
		"C1\n",
		"*1\n"
		"+1\t\n"
		"*2\n"
		"+2\tO1\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/acl\n"
		"I1\t0\tshared/shared-boxes/\talice\n"
		"B2\talice\t0\n"
		"U2\tshared/shared-boxes/user/bob/alice\n"
		"C2\n",
		"*1\n"
		"+1\tOshared/shared-boxes/user/bob/alice\t1\n"
		"+1\t\n"
		"*2\n"
		"+2\tO2\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/notify_status\n"
		"B3\talice\t0\n"
		"U3\tpriv/status/Box\n"
		"C3\n"
		"B4\talice\t0\n"
		"S4\tpriv/status/Box2/Sub\t{\"messages\":0,\"unseen\":0}\n"
		"C4\n",
		"*1\n"
		"+1\tO3\n"
		"*2\n"
		"+2\tO4\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/attr\n"
		"I9\t0\tpriv/78105e19695f016b1322000083ecc375/\talice\n"
		"I9\t0\tshared/78105e19695f016b1322000083ecc375/\talice\n"
		"B10\talice\t0\n"
		"U10\tpriv/78105e19695f016b1322000083ecc375/comment\n"
		"C10\n"
		"B11\talice\t0\n"
		"U11\tshared/78105e19695f016b1322000083ecc375/comment\n"
		"C11\n",
		"*1\n"
		"+1\tOpriv/78105e19695f016b1322000083ecc375/comment\t\n"
		"+1\t\n"
		"*2\n"
		"+2\t\n"
		"*3\n"
		"+3\tO10\n"
		"*4\n"
		"+4\tO11\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/notify_status\n"
		"B5\talice\t0\n"
		"U5\tpriv/status/Box2/Sub\n"
		"C5\n",
		"*1\n"
		"+1\tO5\n"},
	{"24-mail-features",
		"H4\t0\t0\t\tdefault/quota_clone\n"
		"B1\talice\t0\n"
		"S1\tpriv/quota/storage\t243\n"
		"S1\tpriv/quota/messages\t1\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-reference-server: basic session",
		"H4\t0\t0\t\tf\n"
		"B1\t\t0\n"
		"S1\tshared/a\t1\n"
		"S1\tshared/b\ttab\001there\n"
		"S1\tshared/sub/c\t3\n"
		"C1\n"
		"Lshared/a\t\n"
		"Lshared/b\t\n"
		"Lshared/none\t\n"
		"I0\t0\tshared/\t\n"
		"I1\t0\tshared/\t\n"
		"I9\t0\tshared/\t\n"
		"I16\t0\tshared/a\t\n"
		"I1\t1\tshared/\t\n"
		"I0\t0\tshared/nothing/\t\n",
		"*1\n"
		"+1\tO1\n"
		"*2\n"
		"+2\tO1\n"
		"*3\n"
		"+3\tOtab\001there\n"
		"*4\n"
		"+4\tN\n"
		"*5\n"
		"+5\tOshared/a\t1\n"
		"+5\tOshared/b\ttab\001there\n"
		"+5\t\n"
		"*6\n"
		"+6\tOshared/a\t1\n"
		"+6\tOshared/b\ttab\001there\n"
		"+6\tOshared/sub/c\t3\n"
		"+6\t\n"
		"*7\n"
		"+7\tOshared/a\t\n"
		"+7\tOshared/b\t\n"
		"+7\tOshared/sub/c\t\n"
		"+7\t\n"
		"*8\n"
		"+8\tOshared/a\t1\n"
		"+8\t\n"
		"*9\n"
		"+9\tOshared/a\t1\n"
		"+9\t\n"
		"*10\n"
		"+10\t\n"},
	{"24-reference-server: timestamp and private keys (file dict ignores the user)",
		"H4\t0\t0\t\tf\n"
		"B1\talice\t0\n"
		"T1\t1700000000\t123\n"
		"S1\tpriv/x\tv\n"
		"C1\n"
		"Lpriv/x\talice\n"
		"Lpriv/x\tbob\n",
		"*1\n"
		"+1\tO1\n"
		"*2\n"
		"+2\tOv\n"
		"*3\n"
		"+3\tOv\n"},
	{"24-reference-server: V (hide log values)",
		"H4\t0\t0\t\tf\n"
		"B1\t\t0\n"
		"V1\tyes\n"
		"S1\tshared/h\tv\n"
		"C1\n",
		"*1\n"
		"+1\tO1\n"},
	{"24-reference-server: pipelined commands",
		"H4\t0\t0\t\tf\n"
		"Lshared/a\t\n"
		"Lshared/b\t\n"
		"I1\t0\tshared/\t\n"
		"Lshared/a\t\n",
		"*1\n"
		"+1\tO6\n"
		"*2\n"
		"+2\tN\n"
		"*3\n"
		"+3\tOshared/a\t6\n"
		"+3\tOshared/sub/c\t3\n"
		"+3\tOshared/h\tv\n"
		"+3\t\n"
		"*4\n"
		"+4\tO6\n"},
	{"24-reference-server: CRLF line end",
		"H4\t0\t0\t\tf\n"
		"Lshared/a\t\r\n",
		"*1\n"
		"+1\tO6\n"},
	{"24-reference-server: proxy chain, upstream style ooo",
		"H4\t0\t0\t\tooo\n"
		"Lshared/q1\t\n"
		"Lshared/q2\t\n"
		"Lshared/q3\t\n",
		"*1\n"
		"+1\tOanswer-for-shared/q1\n"
		"*2\n"
		"+2\tOanswer-for-shared/q2\n"
		"*3\n"
		"+3\tOanswer-for-shared/q3\n"},
};
/* clang-format on */

#endif
