#include <arpa/inet.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/fd.h"
#include "engine/base/random.h"
#include "migrate/tls/authority.h"
#include "migrate/tls/credentials.h"
#include "migrate/tls/openssl.h"

#define EARLIER_S 300			/* clocks of nodes may differ by so much */
#define SANS_MAX 4096
#define X509_V3 2			/* RFC 5280, 4.1.2.1 */
#define CRL_V2 1

/* What a certificate is to say. */
struct wanted {
	const char *name;
	const char *usage, *constraints, *purposes, *sans;	/* as in x509v3_config(5); NULL: without */
	uint32_t days;
};

/* ---- making one ---- */

static int add_extension(X509 *x, X509 *issuer, int nid, const char *value, struct error *err)
{
	X509_EXTENSION *e;
	X509V3_CTX context;

	if (!value)
		return 0;
	ossl->X509V3_set_ctx(&context, issuer, x, NULL, NULL, 0);
	context.db = NULL;
	e = ossl->X509V3_EXT_conf_nid(NULL, &context, nid, value);
	if (!e || !ossl->X509_add_ext(x, e, -1)) {
		ossl->X509_EXTENSION_free(e);
		return openssl_fail(EINVAL, value, err);
	}
	ossl->X509_EXTENSION_free(e);
	return 0;
}

/* RFC 5280, 4.1.2.2: positive, and nobody guesses it. */
static int set_serial(X509 *x, struct error *err)
{
	ASN1_INTEGER *serial;
	char hex[17];
	int r;

	if (random_hex(hex, 16, err) < 0)
		return -err->code;
	serial = ossl->ASN1_INTEGER_new();
	r = serial && ossl->ASN1_INTEGER_set_uint64(serial, (strtoull(hex, NULL, 16) >> 1) | 1) &&
	    ossl->X509_set_serialNumber(x, serial) ? 0 : openssl_fail(ENOMEM, "serial number", err);
	ossl->ASN1_INTEGER_free(serial);
	return r;
}

static int fill(X509 *x, const struct wanted *w, EVP_PKEY *key, X509 *issuer, struct error *err)
{
	X509_NAME *subject = ossl->X509_get_subject_name(x);
	const unsigned char *name = (const unsigned char *)w->name;

	if (set_serial(x, err) < 0)
		return -err->code;
	if (!ossl->X509_set_version(x, X509_V3) || !ossl->X509_set_pubkey(x, key) ||
	    !ossl->X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, name, -1, -1, 0) ||
	    !ossl->X509_set_issuer_name(x, ossl->X509_get_subject_name(issuer)) ||
	    !ossl->X509_time_adj_ex(ossl->X509_getm_notBefore(x), 0, -EARLIER_S, NULL) ||
	    !ossl->X509_time_adj_ex(ossl->X509_getm_notAfter(x), (int)w->days, 0, NULL))
		return openssl_fail(EINVAL, "make a certificate", err);
	return add_extension(x, issuer, NID_basic_constraints, w->constraints, err) < 0 ||
	       add_extension(x, issuer, NID_key_usage, w->usage, err) < 0 ||
	       add_extension(x, issuer, NID_ext_key_usage, w->purposes, err) < 0 ||
	       add_extension(x, issuer, NID_subject_key_identifier, "hash", err) < 0 ||
	       add_extension(x, issuer, NID_authority_key_identifier, "keyid", err) < 0 ||
	       add_extension(x, issuer, NID_subject_alt_name, w->sans, err) < 0 ? -err->code : 0;
}

/* issuer NULL: it signs itself. */
static int make(const struct wanted *w, X509 *issuer, EVP_PKEY *issuer_key, X509 **ret, EVP_PKEY **ret_key,
		struct error *err)
{
	CLEANUP(openssl_x509_freep) X509 *x = ossl->X509_new();
	CLEANUP(openssl_key_freep) EVP_PKEY *key = ossl->EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");

	if (!x || !key)
		return openssl_fail(EIO, "make a key", err);
	if (fill(x, w, key, issuer ? issuer : x, err) < 0)
		return -err->code;
	if (!ossl->X509_sign(x, issuer ? issuer_key : key, ossl->EVP_sha256()))
		return openssl_fail(EIO, "sign a certificate", err);
	*ret = TAKE_PTR(x);
	*ret_key = TAKE_PTR(key);
	return 0;
}

/* ---- the CA ---- */

static int make_ca(struct credentials *ca, struct error *err)
{
	struct wanted w = { .usage = "critical,keyCertSign,cRLSign", .constraints = "critical,CA:TRUE,pathlen:0",
			    .days = AUTHORITY_DAYS };
	char name[64], hex[9];

	if (random_hex(hex, 8, err) < 0)
		return -err->code;
	(void)snprintf(name, sizeof(name), "godwit cluster %s", hex);
	w.name = name;
	return make(&w, NULL, NULL, &ca->cert, &ca->key, err);
}

static int no_ca(const struct node *node, struct error *err)
{
	return error_set(err, ENOKEY, "the CA of the cluster is not on node '%s' (%s/tls/" AUTHORITY_KEY "): do this "
			 "on the node where 'godwit tls init' was done", node->config.name, node->path);
}

static int lock_ca(const struct node *node, int *ret_dir, struct error *err)
{
	int r = credentials_lock(node, false, ret_dir, err);

	return r == -ENOENT ? no_ca(node, err) : r;
}

/* cert and key of ret are the CA's; cas are others that are trusted. */
static int read_ca(const struct node *node, int dir, struct credentials **ret, struct error *err)
{
	CLEANUP(credentials_freep) struct credentials *ca = NULL;
	int r = credentials_new(&ca, err);

	if (r == 0)
		r = credentials_read_file(ca, dir, AUTHORITY_KEY, err);
	if (r == -ENOENT)
		return no_ca(node, err);
	if (r == 0)
		r = credentials_read_file(ca, dir, CREDENTIALS_CA, err);
	if (r < 0)
		return error_wrap(err, "%s/tls", node->path);
	if (credentials_read_file(ca, dir, CREDENTIALS_CRL, err) < 0 && err->code != ENOENT)
		return -err->code;
	if (!ca->key || !ca->cert)
		return error_set(err, EINVAL, "%s/tls/" CREDENTIALS_CA " is not the CA of " AUTHORITY_KEY, node->path);
	*ret = TAKE_PTR(ca);
	return 0;
}

/* ---- issuing ---- */

/* "DNS:node1,DNS:node1.example,IP:10.0.0.1" */
static int write_sans(const char *name, const char *const *hosts, size_t n, char ret[SANS_MAX], struct error *err)
{
	size_t len = (size_t)snprintf(ret, SANS_MAX, "DNS:%s", name);
	unsigned char address[16];

	for (size_t i = 0; i < n && len < SANS_MAX; i++) {
		bool ip = inet_pton(AF_INET, hosts[i], address) == 1 || inet_pton(AF_INET6, hosts[i], address) == 1;

		if (!ip && certificate_check_name(hosts[i], err) < 0)
			return -err->code;
		len += (size_t)snprintf(ret + len, SANS_MAX - len, ",%s:%s", ip ? "IP" : "DNS", hosts[i]);
	}
	return len < SANS_MAX ? 0 : error_set(err, E2BIG, "too many hosts for one certificate");
}

static int note_issued(int dir, X509 *x, struct error *err)
{
	const struct certificate_facts f = certificate_facts(x);
	CLEANUP(fd_closep) int issued = -EBADF;
	char file[CERTIFICATE_NAME_MAX + 32];

	(void)snprintf(file, sizeof(file), "%s-%016llx.pem", f.name, (unsigned long long)f.serial);
	return fd_open_dir_at(dir, AUTHORITY_ISSUED, true, 0700, &issued, err) < 0 ? -err->code :
	       credentials_write(issued, file, &x, 1, NULL, NULL, err);
}

/* In that folder, which is locked or nobody's yet. */
static int issue(int dir, const struct credentials *ca, const char *name, const char *const *hosts, size_t n_hosts,
		 uint32_t days, X509 **ret, EVP_PKEY **ret_key, struct error *err)
{
	char sans[SANS_MAX];
	const struct wanted w = { .name = name, .usage = "critical,digitalSignature", .sans = sans, .days = days,
				  .constraints = "critical,CA:FALSE", .purposes = "serverAuth,clientAuth" };

	if (certificate_check_name(name, err) < 0 || write_sans(name, hosts, n_hosts, sans, err) < 0 ||
	    make(&w, ca->cert, ca->key, ret, ret_key, err) < 0)
		return -err->code;
	return note_issued(dir, *ret, err);
}

static int init_in(const struct node *node, int dir, uint32_t days, struct error *err)
{
	CLEANUP(credentials_freep) struct credentials *ca = NULL;
	CLEANUP(openssl_x509_freep) X509 *x = NULL;
	CLEANUP(openssl_key_freep) EVP_PKEY *key = NULL;

	if (credentials_new(&ca, err) < 0 || make_ca(ca, err) < 0 ||
	    issue(dir, ca, node->config.name, NULL, 0, days, &x, &key, err) < 0)
		return -err->code;
	return credentials_write(dir, AUTHORITY_KEY, NULL, 0, ca->key, NULL, err) < 0 ||
	       credentials_write(dir, CREDENTIALS_CA, &ca->cert, 1, NULL, NULL, err) < 0 ||
	       credentials_write(dir, CREDENTIALS_CERT, &x, 1, NULL, NULL, err) < 0 ||
	       credentials_write(dir, CREDENTIALS_KEY, NULL, 0, key, NULL, err) < 0 ? -err->code : 0;
}

/* Whole or not at all. */
int authority_init(const struct node *node, uint32_t days, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;
	struct error ignored;
	char name[32];
	int r;

	if (faccessat(node->state_fd, CREDENTIALS_DIR, F_OK, 0) == 0)
		return error_set(err, EEXIST, "node '%s' belongs to a cluster already; remove %s/tls first to leave it",
				 node->config.name, node->path);
	(void)snprintf(name, sizeof(name), ".tls-%d", (int)getpid());
	r = fd_open_dir_at(node->state_fd, name, true, 0700, &dir, err);
	if (r == 0)
		r = init_in(node, dir, days, err);
	if (r == 0 && renameat2(node->state_fd, name, node->state_fd, CREDENTIALS_DIR, RENAME_NOREPLACE) < 0)
		r = error_set(err, errno, "make %s/tls: %s", node->path, strerror(errno));
	if (r == 0 && fsync(node->state_fd) < 0)
		r = error_set(err, errno, "fsync: %s", strerror(errno));
	if (r < 0)
		(void)fd_remove_tree_at(node->state_fd, name, &ignored);
	return r;
}

static int bundle(const struct credentials *ca, X509 *x, EVP_PKEY *key, char **ret, size_t *ret_len, struct error *err)
{
	X509 *certs[CREDENTIALS_CAS_MAX + 2] = { x, ca->cert };

	memcpy(certs + 2, ca->cas, ca->n_cas * sizeof(*certs));
	return credentials_format(certs, 2 + ca->n_cas, key, ca->crl, ret, ret_len, err);
}

int authority_issue(const struct node *node, const char *name, const char *const *hosts, size_t n_hosts,
		    uint32_t days, char **ret, size_t *ret_len, struct error *err)
{
	CLEANUP(credentials_freep) struct credentials *ca = NULL;
	CLEANUP(openssl_x509_freep) X509 *x = NULL;
	CLEANUP(openssl_key_freep) EVP_PKEY *key = NULL;
	CLEANUP(fd_closep) int dir = -EBADF;

	return lock_ca(node, &dir, err) < 0 || read_ca(node, dir, &ca, err) < 0 ||
	       issue(dir, ca, name, hosts, n_hosts, days, &x, &key, err) < 0 ||
	       bundle(ca, x, key, ret, ret_len, err) < 0 ? -err->code : 0;
}

/* ---- revoking ---- */

static int new_crl(struct credentials *ca, struct error *err)
{
	if (ca->crl)
		return 0;
	ca->crl = ossl->X509_CRL_new();
	if (!ca->crl || !ossl->X509_CRL_set_version(ca->crl, CRL_V2) ||
	    !ossl->X509_CRL_set_issuer_name(ca->crl, ossl->X509_get_subject_name(ca->cert)))
		return openssl_fail(ENOMEM, "make a list of revoked certificates", err);
	return 0;
}

/* Returns 1 when it is there already. */
static int revoke_serial(X509_CRL *crl, uint64_t number, const ASN1_TIME *now, struct error *err)
{
	ASN1_INTEGER *serial = ossl->ASN1_INTEGER_new();
	X509_REVOKED *old = NULL, *entry = NULL;
	int r = 0;

	if (!serial || !ossl->ASN1_INTEGER_set_uint64(serial, number))
		r = error_set(err, ENOMEM, "out of memory");
	else if (ossl->X509_CRL_get0_by_serial(crl, &old, serial) == 1)
		r = 1;
	else if (!(entry = ossl->X509_REVOKED_new()) || !ossl->X509_REVOKED_set_serialNumber(entry, serial) ||
		 !ossl->X509_REVOKED_set_revocationDate(entry, (ASN1_TIME *)(uintptr_t)now) ||
		 !ossl->X509_CRL_add0_revoked(crl, entry)) {
		ossl->X509_REVOKED_free(entry);
		r = openssl_fail(ENOMEM, "revoke", err);
	}
	ossl->ASN1_INTEGER_free(serial);
	return r;
}

/* "NAME-SERIAL.pem" of that name; 0: of another one. */
static uint64_t serial_of(const char *file, const char *name)
{
	size_t len = strlen(name);
	char *end = NULL;
	uint64_t serial;

	if (strncmp(file, name, len) != 0 || file[len] != '-')
		return 0;
	serial = strtoull(file + len + 1, &end, 16);
	return end == file + len + 17 && !strcmp(end, ".pem") ? serial : 0;
}

static int revoke_all(struct credentials *ca, int dir, const char *name, const ASN1_TIME *now, size_t *ret_n,
		      struct error *err)
{
	size_t n = 0, revoked = 0, found = 0;
	char **files = NULL;
	int r = fd_list_at(dir, AUTHORITY_ISSUED, &files, &n, err);

	for (size_t i = 0; i < n && r >= 0; i++) {
		uint64_t serial = serial_of(files[i], name);

		if (!serial)
			continue;
		r = revoke_serial(ca->crl, serial, now, err);
		found++;
		revoked += r == 0;
	}
	fd_list_free(files, n);
	if (r >= 0 && !found)
		return error_set(err, ENOENT, "no certificate was issued here for '%s' (tls/" AUTHORITY_ISSUED ")",
				 name);
	*ret_n = revoked;
	return r < 0 ? r : 0;
}

static int sign_crl(struct credentials *ca, ASN1_TIME *now, struct error *err)
{
	ASN1_TIME *next = ossl->ASN1_TIME_adj(NULL, time(NULL), AUTHORITY_DAYS, 0);
	bool good = next && ossl->X509_CRL_set1_lastUpdate(ca->crl, now) &&
		    ossl->X509_CRL_set1_nextUpdate(ca->crl, next) && ossl->X509_CRL_sort(ca->crl) &&
		    ossl->X509_CRL_sign(ca->crl, ca->key, ossl->EVP_sha256());

	ossl->ASN1_TIME_free(next);
	return good ? 0 : openssl_fail(EIO, "sign the list of revoked certificates", err);
}

int authority_revoke(const struct node *node, const char *name, size_t *ret_n, struct error *err)
{
	CLEANUP(credentials_freep) struct credentials *ca = NULL;
	CLEANUP(fd_closep) int dir = -EBADF;
	ASN1_TIME *now = NULL;
	int r;

	if (lock_ca(node, &dir, err) < 0 || read_ca(node, dir, &ca, err) < 0 || new_crl(ca, err) < 0)
		return -err->code;
	now = ossl->ASN1_TIME_adj(NULL, time(NULL), 0, -EARLIER_S);
	r = now ? revoke_all(ca, dir, name, now, ret_n, err) : error_set(err, ENOMEM, "out of memory");
	if (r == 0)
		r = sign_crl(ca, now, err);
	ossl->ASN1_TIME_free(now);
	return r < 0 ? r : credentials_write(dir, CREDENTIALS_CRL, NULL, 0, NULL, ca->crl, err);
}
