"""Who is told a token of a service account can tell by himself that it is good: OpenID Connect."""

from typing import Any

import aiohttp
import pytest

from kubeloop.cluster import Cluster

jwt = pytest.importorskip("jwt", reason="no library for JSON web tokens: pip install pyjwt[crypto]")


async def test_a_token_is_known_by_the_published_key() -> None:
    async with Cluster(nodes=0, rest=True, tls=False) as cluster:
        token = cluster.kubeconfig["users"][0]["user"]["token"]
        headers = {"Authorization": f"Bearer {token}"}

        async def read(path: str) -> tuple[str, Any]:
            async with http.get(path) as answer:
                assert answer.status == 200
                assert answer.headers["Cache-Control"] == "public, max-age=3600"
                return answer.content_type, await answer.json(content_type=None)

        async with aiohttp.ClientSession(cluster.url, headers=headers) as http:
            type_, told = await read("/.well-known/openid-configuration")
            assert type_ == "application/json"
            assert told["jwks_uri"] == cluster.url.replace("http:", "https:") + "/openid/v1/jwks"
            type_, keys = await read("/openid/v1/jwks")  # Before there was any token.
            assert type_ == "application/jwk-set+json"
            await cluster.api.create(
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
            )
            asked = {"spec": {"audiences": ["vault"], "expirationSeconds": 600}}
            path = "/api/v1/namespaces/default/serviceaccounts/robot/token"
            async with http.post(path, json=asked) as answer:
                assert answer.status == 201
                signed = (await answer.json())["status"]["token"]
            assert (await read("/openid/v1/jwks"))[1] == keys

    (key,) = jwt.PyJWKSet.from_dict(keys).keys
    assert jwt.get_unverified_header(signed)["kid"] == key.key_id
    algorithms = told["id_token_signing_alg_values_supported"]
    how = {"algorithms": algorithms, "issuer": told["issuer"]}
    claims = jwt.decode(signed, key, audience="vault", **how)
    assert claims["sub"] == "system:serviceaccount:default:robot"
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(signed, key, audience="others", **how)
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(signed[:-4] + "AAAA", key, audience="vault", **how)
