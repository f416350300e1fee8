/*
 * credentials.h - what a node proves with that it belongs to the cluster
 *
 *   STATE/tls/ca.pem	certificates of the CAs whose nodes are trusted: one, or two
 *			while one follows the other
 *   STATE/tls/cert.pem	this node's certificate
 *   STATE/tls/key.pem	its key, which nobody else may read
 *   STATE/tls/crl.pem	certificates of the CA that are revoked; may be missing
 *
 * All are PEM files that any tool may have made. The node that issues certificates has
 * more: authority.h. They are read for each connection, so a new certificate is used from
 * the next one on; whoever replaces several of them has the lock of the folder meanwhile.
 *
 * A node that was told so (struct node, insecure) needs none, and uses none.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/cleanup.h"
#include "engine/node.h"
#include "migrate/tls/certificate.h"

#define CREDENTIALS_DIR "tls"
#define CREDENTIALS_CA "ca.pem"
#define CREDENTIALS_CERT "cert.pem"
#define CREDENTIALS_KEY "key.pem"
#define CREDENTIALS_CRL "crl.pem"
#define CREDENTIALS_FILE_MAX (1u << 20)
#define CREDENTIALS_CAS_MAX 8

struct evp_pkey_st;
struct X509_crl_st;

struct credentials {
	struct x509_st *cas[CREDENTIALS_CAS_MAX];
	size_t n_cas;
	struct x509_st *cert;
	struct evp_pkey_st *key;
	struct X509_crl_st *crl;	/* or NULL */
	struct certificate_facts facts;	/* of cert */
};

/* Reads and checks them. -ENOKEY when there are none, -EPERM when others can read the key,
 * -EKEYEXPIRED, -EINVAL (damaged, of another node): each with what to do about it. */
int credentials_load(const struct node *node, struct credentials **ret, struct error *err);

/* The same without a look at the dates. */
int credentials_read(const struct node *node, struct credentials **ret, struct error *err);
void credentials_free(struct credentials *c);
DEFINE_CLEANUP(struct credentials *, credentials_free)

/* From any PEM blocks: the first key, the certificate of that key, the other certificates (cas), the
 * first CRL; what c has already stays. */
int credentials_new(struct credentials **ret, struct error *err);
int credentials_parse(struct credentials *c, const char *text, size_t len, struct error *err);
int credentials_read_file(struct credentials *c, int dir, const char *file, struct error *err);

/* Fills out with the PEM blocks of what there is: certificates, a key, a CRL. The caller frees it. */
int credentials_format(struct x509_st *const *certs, size_t n, struct evp_pkey_st *key, struct X509_crl_st *crl,
		       char **ret, size_t *ret_len, struct error *err);

/* The same into a file of that folder, which only root can read when there is a key. */
int credentials_write(int dir, const char *file, struct x509_st *const *certs, size_t n, struct evp_pkey_st *key,
		      struct X509_crl_st *crl, struct error *err);

/* The folder, nobody else's until the fd is closed; -ENOENT when it is missing and not to be made. */
int credentials_lock(const struct node *node, bool create, int *ret_dir, struct error *err);

/* Puts a file of PEM blocks in place: a key with its certificate and its CA (authority_issue), or a
 * list of revoked certificates, or both. Nothing is changed when it does not fit to this node. */
int credentials_install(const struct node *node, const char *text, size_t len, struct error *err);
