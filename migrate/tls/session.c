#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "migrate/tls/credentials.h"
#include "migrate/tls/openssl.h"
#include "migrate/tls/session.h"

/* The usual one first: it is the fastest where the processor has AES. RFC 8446, B.4 */
#define CIPHERS "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define RECORD_HEADER 5
#define OUT_MAX (4u << 20)		/* more than any frame; a peer can't make us keep more for it */
#define PLAIN_MAGIC "GDWT"		/* proto/wire.h */
#define EX_DATA 0			/* SSL_set_app_data */

struct session {
	SSL *ssl;
	BIO_METHOD *method;
	int fd;
	bool accepts, checked, ended;
	/* what is sealed, and not sent yet */
	uint8_t *out;
	size_t out_len, out_size;
	/* how the last read from the socket went */
	uint8_t ahead[RECORD_HEADER];	/* of the next record */
	size_t ahead_len;
	bool eof;
	int read_errno;
	size_t received;
	bool heard, plain;
	struct certificate_facts peer;
	struct error refused;		/* code 0: the peer's certificate is good */
};

/* ---- the socket, as OpenSSL sees it ---- */

static int grow(struct session *s, size_t len)
{
	size_t size = s->out_size ? s->out_size : 4096;
	uint8_t *more;

	while (size < s->out_len + len)
		size *= 2;
	if (size > OUT_MAX)
		return 0;
	if (size == s->out_size)
		return 1;
	more = realloc(s->out, size);
	if (!more)
		return 0;
	s->out = more;
	s->out_size = size;
	return 1;
}

static int put(BIO *bio, const char *data, size_t len, size_t *ret_len)
{
	struct session *s = ossl->BIO_get_data(bio);

	if (!grow(s, len))
		return 0;
	memcpy(s->out + s->out_len, data, len);
	s->out_len += len;
	*ret_len = len;
	return 1;
}

/* The body of a record, and with it the header of the next one: as that has a body, too, the socket
 * becomes readable for it as it would without. */
static ssize_t receive(struct session *s, char *data, size_t size)
{
	struct iovec iov[2] = { { .iov_base = data, .iov_len = size },
				{ .iov_base = s->ahead, .iov_len = size > RECORD_HEADER ? RECORD_HEADER : 0 } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n = recvmsg(s->fd, &m, MSG_DONTWAIT);

	if (n <= 0)
		return n;
	s->received += (size_t)n;
	if (!s->heard)
		s->plain = (size_t)n >= strlen(PLAIN_MAGIC) && !memcmp(data, PLAIN_MAGIC, strlen(PLAIN_MAGIC));
	s->heard = true;
	if ((size_t)n > size) {
		s->ahead_len = (size_t)n - size;
		n = (ssize_t)size;
	}
	return n;
}

static size_t take_ahead(struct session *s, char *data, size_t size)
{
	size_t n = s->ahead_len < size ? s->ahead_len : size;

	memcpy(data, s->ahead, n);
	memmove(s->ahead, s->ahead + n, s->ahead_len - n);
	s->ahead_len -= n;
	return n;
}

static int get(BIO *bio, char *data, size_t size, size_t *ret_len)
{
	struct session *s = ossl->BIO_get_data(bio);
	ssize_t n;

	ossl->BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
	n = s->ahead_len ? (ssize_t)take_ahead(s, data, size) : receive(s, data, size);
	if (n > 0) {
		*ret_len = (size_t)n;
		return 1;
	}
	if (n == 0)
		s->eof = true;
	else if (errno == EAGAIN || errno == EINTR)
		ossl->BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
	else
		s->read_errno = errno;
	return 0;
}

static long control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static int attach_socket(struct session *s, struct error *err)
{
	BIO *bio = NULL;

	s->method = ossl->BIO_meth_new(BIO_TYPE_SOURCE_SINK, "godwit");
	if (s->method && ossl->BIO_meth_set_read_ex(s->method, get) && ossl->BIO_meth_set_write_ex(s->method, put) &&
	    ossl->BIO_meth_set_ctrl(s->method, control))
		bio = ossl->BIO_new(s->method);
	if (!bio)
		return openssl_fail(ENOMEM, "TLS", err);
	ossl->BIO_set_data(bio, s);
	ossl->BIO_set_init(bio, 1);
	(void)ossl->BIO_up_ref(bio);
	ossl->SSL_set0_rbio(s->ssl, bio);
	ossl->SSL_set0_wbio(s->ssl, bio);
	return 0;
}

/* ---- who the peer is ---- */

static int on_certificate(int good, X509_STORE_CTX *context)
{
	SSL *ssl = ossl->X509_STORE_CTX_get_ex_data(context, ossl->SSL_get_ex_data_X509_STORE_CTX_idx());
	struct session *s = ossl->SSL_get_ex_data(ssl, EX_DATA);

	/* A CA that follows another one has revoked nothing yet. */
	if (!good && ossl->X509_STORE_CTX_get_error(context) == X509_V_ERR_UNABLE_TO_GET_CRL) {
		ossl->X509_STORE_CTX_set_error(context, X509_V_OK);
		return 1;
	}
	if (!good && !s->refused.code)
		(void)certificate_refused(ossl->X509_STORE_CTX_get0_cert(context),
					  ossl->X509_STORE_CTX_get_error_depth(context),
					  ossl->X509_STORE_CTX_get_error(context), &s->refused);
	return good;
}

static int trust(SSL_CTX *context, const struct credentials *c, struct error *err)
{
	X509_STORE *store = ossl->SSL_CTX_get_cert_store(context);

	for (size_t i = 0; i < c->n_cas; i++)
		if (!ossl->X509_STORE_add_cert(store, c->cas[i]))
			return openssl_fail(EINVAL, "tls/" CREDENTIALS_CA, err);
	if (c->crl && (!ossl->X509_STORE_add_crl(store, c->crl) ||
		       !ossl->X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK)))
		return openssl_fail(EINVAL, "tls/" CREDENTIALS_CRL, err);
	return 0;
}

static int configure(SSL_CTX *context, const struct credentials *c, struct error *err)
{
	if (!ossl->SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_3_VERSION, NULL) ||
	    !ossl->SSL_CTX_set_ciphersuites(context, CIPHERS) || !ossl->SSL_CTX_set_num_tickets(context, 0))
		return openssl_fail(EINVAL, "TLS", err);
	(void)ossl->SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL);
	(void)ossl->SSL_CTX_ctrl(context, SSL_CTRL_MODE, SSL_MODE_NO_AUTO_CHAIN, NULL);	/* the peer has the CA */
	(void)ossl->SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	ossl->SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_certificate);
	return trust(context, c, err);
}

static int make_ssl(struct session *s, const struct credentials *c, struct error *err)
{
	SSL_CTX *context = ossl->SSL_CTX_new(ossl->TLS_method());

	if (!context)
		return openssl_fail(ENOMEM, "TLS", err);
	if (configure(context, c, err) == 0) {
		s->ssl = ossl->SSL_new(context);
		if (!s->ssl)
			(void)openssl_fail(ENOMEM, "TLS", err);
	}
	ossl->SSL_CTX_free(context);
	if (!s->ssl)
		return -err->code;
	/* Not the context's: it could not be made to forget them. */
	if (!ossl->SSL_use_certificate(s->ssl, c->cert) || !ossl->SSL_use_PrivateKey(s->ssl, c->key))
		return openssl_fail(EINVAL, "tls/" CREDENTIALS_CERT, err);
	(void)ossl->SSL_set_ex_data(s->ssl, EX_DATA, s);
	(s->accepts ? ossl->SSL_set_accept_state : ossl->SSL_set_connect_state)(s->ssl);
	return attach_socket(s, err);
}

int session_new(const struct node *node, int fd, bool accepts, struct session **ret, struct error *err)
{
	CLEANUP(session_freep) struct session *s = calloc(1, sizeof(*s));
	CLEANUP(credentials_freep) struct credentials *c = NULL;

	if (!s)
		return error_set(err, ENOMEM, "out of memory");
	s->fd = fd;
	s->accepts = accepts;
	if (credentials_load(node, &c, err) < 0 || make_ssl(s, c, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(s);
	return 0;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	if (s->ssl)
		ossl->SSL_free(s->ssl);
	if (s->method)
		ossl->BIO_meth_free(s->method);
	free(s->out);
	free(s);
}

const char *session_peer(const struct session *s)
{
	return s->peer.name;
}

int session_check_host(const struct session *s, const char *host, struct error *err)
{
	X509 *x = ossl->SSL_get0_peer_certificate(s->ssl);

	if (x && ossl->X509_check_host(x, host, 0, X509_CHECK_FLAG_NO_WILDCARDS, NULL) == 1)
		return 0;
	return error_set(err, EACCES, "'%s' answers as node '%s', whose certificate is for no such host; if that is "
			 "the right one call it '%s', or have a certificate with 'godwit tls issue --host %s %s'", host,
			 s->peer.name, s->peer.name, host, s->peer.name);
}

/* ---- what went wrong ---- */

static int alert_failed(int alert, struct error *err)
{
	const char *text = ossl->SSL_alert_desc_string_long(alert);

	switch (alert) {
	case SSL_AD_BAD_RECORD_MAC:
		return error_set(err, EPROTO, "the other node has got something else than was sent: the connection is "
				 "disturbed, or somebody is in it");
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_CERTIFICATE_EXPIRED:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_CERTIFICATE_REQUIRED:
	case SSL_AD_UNKNOWN_CA:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
		return error_set(err, EACCES, "the other node refuses this node's certificate (%s); 'godwit tls show' "
				 "tells what is wrong with it, or the log of 'godwit serve' there", text);
	default:
		return error_set(err, EPROTO, "the other node ends the session: %s", text);
	}
}

static int tls_failed(const struct session *s, struct error *err)
{
	unsigned long e = ossl->ERR_peek_last_error();
	int reason = ERR_GET_REASON(e);

	if (s->refused.code) {
		*err = s->refused;
		return -err->code;
	}
	if (s->plain)
		return error_set(err, EPROTO, "the other node does without TLS ('godwit serve --insecure'); start it "
				 "with a certificate ('godwit tls issue'), or on a network that nobody else is on say "
				 "--insecure here, too");
	if (ERR_GET_LIB(e) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET)
		return alert_failed(reason - SSL_AD_REASON_OFFSET, err);
	if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
		return error_set(err, EACCES, "the peer has no certificate");
	if (reason == SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC)
		return error_set(err, EPROTO, "something else has come than the other node has sent: the connection is "
				 "disturbed, or somebody is in it");
	return openssl_fail(EPROTO, s->checked ? "TLS" : "the peer does not speak TLS 1.3 as a godwit node does", err);
}

/* Returns -EAGAIN, without an error, when there is nothing yet; 0: hung up. */
static int failed(struct session *s, int ret, struct error *err)
{
	int code = ossl->SSL_get_error(s->ssl, ret), r;

	if (code == SSL_ERROR_WANT_READ)
		return -EAGAIN;
	s->ended = code == SSL_ERROR_ZERO_RETURN;
	if (s->ended || s->eof)
		r = 0;
	else if (s->read_errno)
		r = error_set(err, s->read_errno, "receive: %s", strerror(s->read_errno));
	else
		r = tls_failed(s, err);
	ossl->ERR_clear_error();
	return r;
}

/* ---- using it ---- */

int session_handshake(struct session *s, struct error *err)
{
	int r = ossl->SSL_do_handshake(s->ssl);

	if (r == 1) {
		s->peer = certificate_facts(ossl->SSL_get0_peer_certificate(s->ssl));
		s->checked = true;
		ossl->SSL_certs_clear(s->ssl);
		return certificate_check_name(s->peer.name, err) < 0 ? error_wrap(err, "the peer's certificate") : 0;
	}
	r = failed(s, r, err);
	if (r == -EAGAIN)
		return 1;
	return r ? r : error_set(err, ECONNRESET, "the peer hung up");
}

bool session_peer_is_plain(const struct session *s)
{
	return s->plain;
}

int session_seal(struct session *s, const void *data, size_t len, struct error *err)
{
	size_t n;

	if (len && !ossl->SSL_write_ex(s->ssl, data, len, &n))
		return openssl_fail(EPROTO, "TLS", err);
	return 0;
}

const void *session_pending(const struct session *s, size_t *ret_len)
{
	*ret_len = s->out_len;
	return s->out;
}

void session_sent(struct session *s)
{
	s->out_len = 0;
}

ssize_t session_read(struct session *s, void *buf, size_t size, struct error *err)
{
	size_t n = 0;

	if (ossl->SSL_read_ex(s->ssl, buf, size, &n))
		return (ssize_t)n;
	return failed(s, 0, err);
}

size_t session_received(struct session *s)
{
	size_t n = s->received;

	s->received = 0;
	return n;
}

int session_end(struct session *s, struct error *err)
{
	return ossl->SSL_shutdown(s->ssl) < 0 ? openssl_fail(EPROTO, "TLS", err) : 0;
}

bool session_has_ended(const struct session *s)
{
	return s->ended;
}
