// A certified OpenID provider (npm `oidc-provider`) for tests: node openid_provider.mjs PACKAGE CONFIGURATION
// It reads its accounts anew with each request: {"ada": {"groups": ["staff"], "email": "ada@example.com"}}.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const { default: Provider } = await import(`${process.argv[2]}/lib/index.js`);
const config = JSON.parse(readFileSync(process.argv[3], "utf8"));
const accounts = () => JSON.parse(readFileSync(config.accounts, "utf8"));

const provider = new Provider(config.issuer, {
  clients: [
    {
      client_id: config.client_id,
      client_secret: config.client_secret,
      redirect_uris: config.redirect_uris,
      post_logout_redirect_uris: config.post_logout_redirect_uris,
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
    },
  ],
  claims: { openid: ["sub"], profile: ["name", "preferred_username"], email: ["email", "email_verified"], groups: ["groups"] },
  scopes: ["openid", "offline_access", "profile", "email", "groups"],
  conformIdTokenClaims: !config.claims_in_id_token, // true: claims come from the userinfo endpoint alone
  issueRefreshToken: async () => config.refresh_tokens,
  rotateRefreshToken: true, // a refresh token that is used twice ends all that was granted with it
  pkce: { required: () => true },
  ttl: { AccessToken: config.access_token_seconds, IdToken: config.id_token_seconds, Session: 3600, Grant: 3600, RefreshToken: 3600, Interaction: 600 },
  cookies: { keys: ["a key for tests"] },
  features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  async findAccount(ctx, id) {
    const account = accounts()[id];
    if (account === undefined) return undefined;
    return { accountId: id, claims: async () => ({ sub: id, ...account }) };
  },
});
createServer(provider.callback()).listen(config.port, "127.0.0.1", () => console.log("provider ready"));
