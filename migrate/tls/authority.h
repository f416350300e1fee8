/*
 * authority.h - a cluster's own CA, so that nobody needs one
 *
 * The node that has it keeps, beside what every node has (credentials.h),
 *
 *   STATE/tls/ca-key.pem		the key of the CA
 *   STATE/tls/issued/NAME-SERIAL.pem	each certificate that it has signed
 *
 *	godwit tls init				first node: CA, and the node's certificate
 *	godwit tls issue NODE -o FILE		there
 *	godwit tls install FILE			on that node
 *
 * Keys are of the curve P-256. Certificates are for both ends of a connection.
 */
#pragma once

#include <stdint.h>

#include "engine/node.h"

#define AUTHORITY_KEY "ca-key.pem"
#define AUTHORITY_ISSUED "issued"
#define AUTHORITY_DAYS 3650u		/* the CA */
#define AUTHORITY_NODE_DAYS 825u	/* a node */

/* Makes the CA, and this node's certificate. -EEXIST when STATE/tls is there. */
int authority_init(const struct node *node, uint32_t days, struct error *err);

/* A key and a certificate for a node of that name, which may also be called by the hosts (names and
 * addresses): PEM blocks of all that credentials_install wants, owned by the caller.
 * -ENOKEY when the CA is not here. */
int authority_issue(const struct node *node, const char *name, const char *const *hosts, size_t n_hosts,
		    uint32_t days, char **ret, size_t *ret_len, struct error *err);

/* Puts all certificates of that name on the list STATE/tls/crl.pem; *ret_n is how many were not on it yet. */
int authority_revoke(const struct node *node, const char *name, size_t *ret_n, struct error *err);
