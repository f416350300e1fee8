#include <pthread.h>
#include <stddef.h>

#include "engine/base/library.h"
#include "migrate/tls/openssl.h"

const struct openssl *ossl;

static struct openssl loaded;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define FUNCTION(name) { #name, offsetof(struct openssl, name) },
static const struct library_function ssl_functions[] = { OPENSSL_SSL_FUNCTIONS(FUNCTION) };
static const struct library_function crypto_functions[] = { OPENSSL_CRYPTO_FUNCTIONS(FUNCTION) };
#undef FUNCTION

static int load(struct error *err)
{
	if (ossl)
		return 0;
	if (library_load("libssl.so.3", "libssl3", ssl_functions, sizeof(ssl_functions) / sizeof(*ssl_functions),
			 &loaded, err) < 0 ||
	    library_load("libcrypto.so.3", "libssl3", crypto_functions,
			 sizeof(crypto_functions) / sizeof(*crypto_functions), &loaded, err) < 0)
		return -err->code;
	ossl = &loaded;
	return 0;
}

int openssl_load(struct error *err)
{
	int r;

	(void)pthread_mutex_lock(&lock);
	r = load(err);
	(void)pthread_mutex_unlock(&lock);
	return r;
}

int openssl_fail(int code, const char *what, struct error *err)
{
	const char *reason = ossl->ERR_reason_error_string(ossl->ERR_peek_last_error());

	ossl->ERR_clear_error();
	return error_set(err, code, "%s: %s", what, reason ? reason : "OpenSSL gives no reason");
}
