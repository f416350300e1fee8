#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "engine/base/fd.h"
#include "migrate/tls/credentials.h"
#include "migrate/tls/openssl.h"

#define HOW "'godwit tls init' on the cluster's first node makes its CA, 'godwit tls issue %s' there a " \
	"certificate for this node; 'godwit --insecure' is for a network that nobody else is on"

/* ---- PEM ---- */

static BIO *open_text(const char *text, size_t len)
{
	return ossl->BIO_new_mem_buf(text, (int)len);
}

int credentials_parse(struct credentials *c, const char *text, size_t len, struct error *err)
{
	CLEANUP(openssl_bio_freep) BIO *keys = open_text(text, len);
	CLEANUP(openssl_bio_freep) BIO *certs = open_text(text, len);
	CLEANUP(openssl_bio_freep) BIO *crls = open_text(text, len);
	X509 *x;

	if (!keys || !certs || !crls)
		return error_set(err, ENOMEM, "out of memory");
	if (!c->key)
		c->key = ossl->PEM_read_bio_PrivateKey(keys, NULL, NULL, (void *)(uintptr_t)"");
	while ((x = ossl->PEM_read_bio_X509(certs, NULL, NULL, NULL))) {
		if (c->key && !c->cert && ossl->X509_check_private_key(x, c->key))
			c->cert = x;
		else if (c->n_cas < CREDENTIALS_CAS_MAX)
			c->cas[c->n_cas++] = x;
		else
			ossl->X509_free(x);
	}
	if (!c->crl)
		c->crl = ossl->PEM_read_bio_X509_CRL(crls, NULL, NULL, NULL);
	ossl->ERR_clear_error();
	return 0;
}

void credentials_free(struct credentials *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n_cas; i++)
		ossl->X509_free(c->cas[i]);
	openssl_x509_freep(&c->cert);
	openssl_key_freep(&c->key);
	openssl_crl_freep(&c->crl);
	free(c);
}

int credentials_new(struct credentials **ret, struct error *err)
{
	if (openssl_load(err) < 0)
		return -err->code;
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : error_set(err, ENOMEM, "out of memory");
}

/* ---- files ---- */

int credentials_read_file(struct credentials *c, int dir, const char *file, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	size_t len = 0;
	int r = fd_read_file_at(dir, file, CREDENTIALS_FILE_MAX, &text, &len, err);

	if (r < 0)
		return r;
	r = credentials_parse(c, text, len, err);
	explicit_bzero(text, len);
	return r;
}

static int check_mode(const struct node *node, int dir, struct error *err)
{
	struct stat st;

	if (fstatat(dir, CREDENTIALS_KEY, &st, 0) < 0)
		return error_set(err, errno, "%s", strerror(errno));
	if (st.st_mode & 077)
		return error_set(err, EPERM, "the key %s/tls/" CREDENTIALS_KEY " can be read by others (mode %04o): "
				 "chmod 0600 it, and if somebody may have read it have a new one issued", node->path,
				 st.st_mode & 07777);
	return 0;
}

static int read_parts(const struct node *node, int dir, struct credentials *c, struct error *err)
{
	static const char *const files[] = { CREDENTIALS_KEY, CREDENTIALS_CERT, CREDENTIALS_CA };
	int r;

	if (check_mode(node, dir, err) < 0 && err->code != ENOENT)
		return -err->code;
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		r = credentials_read_file(c, dir, files[i], err);
		if (r == -ENOENT)
			return error_set(err, ENOKEY, "node '%s' has no %s/tls/%s: " HOW, node->config.name,
					 node->path, files[i], node->config.name);
		if (r < 0)
			return error_wrap(err, "%s/tls/%s", node->path, files[i]);
	}
	r = credentials_read_file(c, dir, CREDENTIALS_CRL, err);
	return r == -ENOENT ? 0 : r;
}

/* ---- checks ---- */

static bool is_signed(const struct credentials *c)
{
	for (size_t i = 0; i < c->n_cas; i++)
		if (ossl->X509_verify(c->cert, ossl->X509_get0_pubkey(c->cas[i])) == 1)
			return true;
	ossl->ERR_clear_error();
	return false;
}

static int check_parts(const struct node *node, const char *where, struct credentials *c, struct error *err)
{
	if (!c->key)
		return error_set(err, EINVAL, "%s: no private key in it, or one with a passphrase", where);
	if (!c->cert)
		return error_set(err, EINVAL, "%s: no certificate of the key", where);
	if (!c->n_cas)
		return error_set(err, EINVAL, "%s: no certificate of a CA", where);
	c->facts = certificate_facts(c->cert);
	if (strcmp(c->facts.name, node->config.name) != 0)
		return error_set(err, EINVAL, "%s: the certificate is of '%s', but this node is called '%s'; "
				 "'godwit tls issue %s' makes one for it", where,
				 c->facts.name[0] ? c->facts.name : "?", node->config.name, node->config.name);
	if (!is_signed(c))
		return error_set(err, EINVAL, "%s: the certificate of '%s' is not signed by the CA beside it; "
				 "have both from one cluster: 'godwit tls issue %s'",
				 where, c->facts.name, c->facts.name);
	return 0;
}

int credentials_read(const struct node *node, struct credentials **ret, struct error *err)
{
	CLEANUP(credentials_freep) struct credentials *c = NULL;
	CLEANUP(fd_closep) int dir = -EBADF;
	char where[NODE_TEXT_MAX + 8];
	int r = fd_open_dir_at(node->state_fd, CREDENTIALS_DIR, false, 0, &dir, err);

	if (r == -ENOENT)
		return error_set(err, ENOKEY, "node '%s' has no certificate (%s/tls): " HOW, node->config.name,
				 node->path, node->config.name);
	if (r < 0 || credentials_new(&c, err) < 0)
		return -err->code;
	(void)flock(dir, LOCK_SH);
	if (read_parts(node, dir, c, err) < 0)
		return -err->code;
	(void)snprintf(where, sizeof(where), "%s/tls", node->path);
	if (check_parts(node, where, c, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(c);
	return 0;
}

int credentials_load(const struct node *node, struct credentials **ret, struct error *err)
{
	CLEANUP(credentials_freep) struct credentials *c = NULL;
	char whose[CERTIFICATE_NAME_MAX + 64];

	if (credentials_read(node, &c, err) < 0)
		return -err->code;
	(void)snprintf(whose, sizeof(whose), "the certificate of this node, '%s',", c->facts.name);
	if (certificate_check_dates(&c->facts, whose, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(c);
	return 0;
}

int credentials_lock(const struct node *node, bool create, int *ret_dir, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;

	if (fd_open_dir_at(node->state_fd, CREDENTIALS_DIR, create, 0700, &dir, err) < 0)
		return error_wrap(err, "%s/tls", node->path);
	if (flock(dir, LOCK_EX) < 0)
		return error_set(err, errno, "lock %s/tls: %s", node->path, strerror(errno));
	*ret_dir = TAKE_FD(dir);
	return 0;
}

/* ---- writing ---- */

int credentials_format(X509 *const *certs, size_t n, EVP_PKEY *key, X509_CRL *crl, char **ret, size_t *ret_len,
		       struct error *err)
{
	CLEANUP(openssl_bio_freep) BIO *out = ossl->BIO_new(ossl->BIO_s_mem());
	char *text = NULL;
	bool good = out != NULL;
	long len;

	for (size_t i = 0; good && i < n; i++)
		good = ossl->PEM_write_bio_X509(out, certs[i]);
	if (good && key)
		good = ossl->PEM_write_bio_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
	if (good && crl)
		good = ossl->PEM_write_bio_X509_CRL(out, crl);
	if (!good)
		return openssl_fail(EIO, "write PEM", err);
	len = ossl->BIO_ctrl(out, BIO_CTRL_INFO, 0, &text);
	*ret = malloc((size_t)len + 1);
	if (*ret) {
		memcpy(*ret, text, (size_t)len);
		(*ret)[len] = '\0';
	}
	explicit_bzero(text, (size_t)len);
	*ret_len = (size_t)len;
	return *ret ? 0 : error_set(err, ENOMEM, "out of memory");
}

int credentials_write(int dir, const char *file, X509 *const *certs, size_t n, EVP_PKEY *key, X509_CRL *crl,
		      struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	size_t len;
	int r;

	if (credentials_format(certs, n, key, crl, &text, &len, err) < 0)
		return -err->code;
	r = fd_replace_file_at(dir, file, text, len, key ? 0600 : 0644, FD_REPLACE_DURABLE, err);
	explicit_bzero(text, len);
	return r < 0 ? error_wrap(err, "write tls/%s", file) : 0;
}

/* ---- installing ---- */

static int check_crl(const struct credentials *new, const struct credentials *now, struct error *err)
{
	const struct credentials *c = new->n_cas ? new : now;

	for (size_t i = 0; c && i < c->n_cas; i++)
		if (ossl->X509_CRL_verify(new->crl, ossl->X509_get0_pubkey(c->cas[i])) == 1)
			return 0;
	ossl->ERR_clear_error();
	return error_set(err, EACCES, "the list of revoked certificates is not signed by the CA of this node's "
			 "cluster");
}

int credentials_install(const struct node *node, const char *text, size_t len, struct error *err)
{
	CLEANUP(credentials_freep) struct credentials *new = NULL, *now = NULL;
	CLEANUP(fd_closep) int dir = -EBADF;
	struct error ignored;

	if (credentials_new(&new, err) < 0 || credentials_parse(new, text, len, err) < 0)
		return -err->code;
	if ((new->key || !new->crl) && check_parts(node, "the file", new, err) < 0)
		return -err->code;
	(void)credentials_read(node, &now, &ignored);
	if (new->crl && check_crl(new, now, err) < 0)
		return -err->code;
	if (credentials_lock(node, true, &dir, err) < 0)
		return -err->code;
	if (new->crl && credentials_write(dir, CREDENTIALS_CRL, NULL, 0, NULL, new->crl, err) < 0)
		return -err->code;
	if (!new->key)
		return 0;
	return credentials_write(dir, CREDENTIALS_CA, new->cas, new->n_cas, NULL, NULL, err) < 0 ||
	       credentials_write(dir, CREDENTIALS_CERT, &new->cert, 1, NULL, NULL, err) < 0 ||
	       credentials_write(dir, CREDENTIALS_KEY, NULL, 0, new->key, NULL, err) < 0 ? -err->code : 0;
}
