//! The part of each rate that this replica gives out: agreed on in Redis, where there is one, or else by the edges that are connected here.
//!
//! In Redis the parts that replicas have of a rate never add up to more than the rate: what one gives up is another's once no edge goes by it
//! any more. It must not know edges.

use std::time::Duration;

use inbound::LineLimit;
use redis::aio::ConnectionManager;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::edge_counts::EdgeCounts;
use super::rate_shares::KEPT;

/// An answer of Redis that takes longer is not waited for: edges wait for theirs.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whoever breaks Redis causes such lines.
static LOST: LineLimit<()> = LineLimit::new();

/// Gives this replica its part of each rate (`KEYS`): as its edges want calls, of what other replicas do not have.
const AGREE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local parts = {}
for position, key in ipairs(KEYS) do
  local rate, wanted, in_force =
    tonumber(ARGV[position * 3]), tonumber(ARGV[position * 3 + 1]), tonumber(ARGV[position * 3 + 2])
  local others, all, count = 0, wanted, 1
  local known = redis.call('HGETALL', key)
  for field = 1, #known, 2 do
    local has, wants, till = string.match(known[field + 1], '^(%S+) (%S+) (%S+)$')
    if not till or tonumber(till) < now then
      redis.call('HDEL', key, known[field])
    elseif known[field] ~= ARGV[1] then
      others, all, count = others + has, all + wants, count + 1
    end
  end
  local share = 1 / count
  if all > 0 then share = (share + wanted / all) / 2 end
  local part = math.max(0, math.min(rate * share, rate - others))
  redis.call('HSET', key, ARGV[1], math.max(part, in_force) .. ' ' .. wanted .. ' ' .. (now + ARGV[2]))
  redis.call('PEXPIRE', key, ARGV[2])
  parts[position] = tostring(part)
end
return parts
";

/// A rate, and what edges of this replica make of it.
#[derive(Debug, Clone)]
pub(super) struct PartDemand<'a> {
    /// The bucket.
    pub(super) bucket: &'a str,
    /// The whole rate, in calls a second.
    pub(super) per_second: f64,
    /// The calls that its edges expect soon.
    pub(super) wanted: f64,
    /// What its edges go by, in calls a second.
    pub(super) in_force: f64,
}

/// Finds the part of each rate that is this replica's.
#[derive(Debug)]
pub(super) struct RateParts {
    replica: String,
    redis: Option<redis::Client>,
    connection: Mutex<Option<ConnectionManager>>,
}

impl RateParts {
    /// Those of a replica, which agrees with the others in Redis if there is one.
    pub(super) fn new(replica: String, redis: Option<redis::Client>) -> Self {
        Self { replica, redis, connection: Mutex::default() }
    }

    /// The calls a second that this replica gives out of each rate.
    pub(super) async fn of(&self, demands: &[PartDemand<'_>], edges: EdgeCounts) -> Vec<f64> {
        if let Some(client) = self.redis.as_ref().filter(|_| !demands.is_empty()) {
            match timeout(PATIENCE, self.agree(client, demands)).await {
                Ok(Ok(parts)) if parts.len() == demands.len() => return parts,
                Ok(Ok(_)) => lost("its answer is too short"),
                Ok(Err(error)) => lost(&error.to_string()),
                Err(_) => lost("no answer in time"),
            }
        }
        let part = edges.here as f64 / edges.all as f64;
        demands.iter().map(|demand| demand.per_second * part).collect()
    }

    async fn agree(
        &self,
        client: &redis::Client,
        demands: &[PartDemand<'_>],
    ) -> redis::RedisResult<Vec<f64>> {
        let mut connection = self.connection(client).await?;
        let mut command = redis::cmd("EVAL");
        command.arg(AGREE).arg(demands.len());
        for demand in demands {
            command.arg(format!("trunkline:rate:{}", demand.bucket));
        }
        command.arg(&self.replica).arg(KEPT.as_millis().to_string());
        for PartDemand { per_second, wanted, in_force, .. } in demands {
            command.arg(per_second.to_string()).arg(wanted.to_string()).arg(in_force.to_string());
        }
        command.query_async(&mut connection).await
    }

    async fn connection(&self, client: &redis::Client) -> redis::RedisResult<ConnectionManager> {
        let mut known = self.connection.lock().await;
        if let Some(connection) = &*known {
            return Ok(connection.clone());
        }
        let connection = client.get_connection_manager().await?;
        *known = Some(connection.clone());
        Ok(connection)
    }
}

fn lost(error: &str) {
    if let Some(times) = LOST.count(()) {
        tracing::warn!(
            error,
            times,
            "cannot agree in Redis on rates (--redis-url); this control plane gives out its part by the edges that are connected"
        );
    }
}
