// Verifies an identity token with jose, and prints its claims and whether each key's name is its thumbprint, as JSON. Arguments: a JWK set, a
// token, the issuer and the audience.

const { calculateJwkThumbprint, createLocalJWKSet, jwtVerify } = require("jose");

const [jwks, token, issuer, audience] = process.argv.slice(2);

(async () => {
  const set = JSON.parse(jwks);
  const expected = { issuer, audience, algorithms: ["ES256"], typ: "JWT", requiredClaims: ["exp", "jti", "sub"] };
  const { payload } = await jwtVerify(token, createLocalJWKSet(set), expected);
  const thumbprints = await Promise.all(set.keys.map((key) => calculateJwkThumbprint(key)));
  const named = set.keys.every((key, at) => key.kid === thumbprints[at]);
  process.stdout.write(JSON.stringify({ claims: payload, named }));
})().catch((error) => {
  process.stdout.write(JSON.stringify({ error: error.code ?? error.message }));
});
