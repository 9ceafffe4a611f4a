//! The controller's metrics, read by a real Prometheus.

use lab::Prometheus;
use lab::controller::{ControllerPlan, HOST, World};

use super::patiently;
use crate::openstack::CLOUD;
use crate::prometheus::{check_names, deploy, is_number, queries};

#[test]
fn every_query_of_the_controllers_dashboard_has_data_and_no_alert_fires_for_a_healthy_one() {
    let cloud = CLOUD.get().unwrap();
    let world = World::new(&cloud).unwrap();
    let server = cloud.create_server("measured", HOST).unwrap();
    let plan = ControllerPlan::named("c1").queue("metrics").further("[metrics]\nlisten = \"127.0.0.1:9170\"\n");
    let mut controller = plan.make(&world).unwrap();
    controller.start().unwrap();
    controller.wait_in_step().unwrap();
    let rules = deploy("prometheus/metadatad-controller.rules.yml");
    let configuration = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: [{rules:?}]\n\
         scrape_configs:\n  - job_name: metadatad-controller\n    static_configs: [{{ targets: [\"127.0.0.1:9170\"] }}]\n"
    );
    let prometheus = Prometheus::start(world.node.namespace(), &configuration).unwrap();
    let queries = queries("metadatad-controller");
    check_names(queries.iter().map(|(_, query)| &**query));
    let mut colour = 0;
    for (panel, query) in queries {
        let mut answer = Vec::new();
        let waited = patiently(&format!("{panel}: {query} has data"), || {
            // Something changes, so that there are rates and quantiles.
            colour += 1;
            cloud.set_property(&server, "colour", &colour.to_string())?;
            answer = prometheus.query(&query)?;
            Ok(answer.iter().any(is_number).then_some(()))
        });
        waited.unwrap_or_else(|error| panic!("{error:#}: {answer:?}"));
    }
    patiently("every rule was evaluated", || {
        let rules = prometheus.rules()?;
        for rule in &rules {
            anyhow::ensure!(rule["health"] != "err" && rule["state"] != "firing", "{rule:#}");
        }
        Ok((!rules.is_empty() && rules.iter().all(|rule| rule["health"] == "ok")).then_some(()))
    })
    .unwrap();
    cloud.delete_server(&server).unwrap();
}
