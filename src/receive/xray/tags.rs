//! Tags of groups and sampling rules: `TagResource`, `UntagResource`, `ListTagsForResource`.
//!
//! At most [`MAX_TAGS`] a resource. One that does not exist is `ResourceNotFoundException`.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::Request;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Error, Receiver, Result};
use crate::decode::awslogs::Validation;

/// Tags of one resource.
const MAX_TAGS: usize = 50;
/// Tags, or keys of tags, in one call.
const MAX_IN_CALL: usize = 200;

/// A tag on the wire.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Tag {
    key: Option<String>,
    value: Option<String>,
}

/// The tags of a resource, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tags(BTreeMap<String, String>);

impl Tags {
    /// As the API lists them.
    pub(super) fn shown(&self) -> Value {
        self.0.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
    }
}

/// The tags of a call, or what is wrong with them.
pub(super) fn checked(validation: &mut Validation, said: Option<&[Tag]>) -> Tags {
    let said = said.unwrap_or_default();
    if said.len() > MAX_TAGS {
        let shown = format!("[{} tags]", said.len());
        validation.violation(shown, "tags", format_args!("Member must have length less than or equal to {MAX_TAGS}"));
        return Tags::default();
    }
    let mut tags = BTreeMap::new();
    for (at, tag) in said.iter().enumerate() {
        let n = at + 1;
        match (&tag.key, &tag.value) {
            (Some(key), Some(value)) => {
                validation.length(key, format_args!("tags.{n}.member.key"), 1, 128);
                validation.length(value, format_args!("tags.{n}.member.value"), 0, 256);
                if key.to_ascii_lowercase().starts_with("aws:") {
                    validation.violation(key, format_args!("tags.{n}.member.key"), "Member must not begin with the reserved prefix aws:");
                }
                if tags.insert(key.clone(), value.clone()).is_some() {
                    validation.violation(key, "tags", "Member must have unique keys");
                }
            }
            (None, _) => validation.missing(format_args!("tags.{n}.member.key")),
            (_, None) => validation.missing(format_args!("tags.{n}.member.value")),
        }
    }
    Tags(tags)
}

/// There is no such resource.
pub(super) fn no_resource(arn: &str) -> Error {
    Error::NotFound {
        message: format!("Resource {arn} was not found."),
        resource: arn.to_string(),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagResource {
    #[serde(rename = "ResourceARN")]
    resource_arn: Option<String>,
    tags: Option<Vec<Tag>>,
    tag_keys: Option<Vec<String>>,
}

impl Receiver {
    fn resource<'a>(&self, validation: &mut Validation, call: &'a TagResource) -> &'a str {
        if let Some(arn) = validation.required(&call.resource_arn, "resourceARN") {
            validation.length(arn, "resourceARN", 1, 1011);
        }
        call.resource_arn.as_deref().unwrap_or_default()
    }

    /// `TagResource`.
    pub(super) async fn tag_resource(&self, request: Request<Body>) -> Result<Value> {
        let call: TagResource = self.call(request).await?;
        let mut validation = Validation::new();
        let arn = self.resource(&mut validation, &call);
        validation.required(&call.tags, "tags");
        let said = checked(&mut validation, call.tags.as_deref());
        validation.finish().map_err(Error::InvalidRequest)?;
        self.change_tags(arn, |tags| {
            tags.0.extend(said.0);
            match tags.0.len() {
                0..=MAX_TAGS => Ok(()),
                n => Err(Error::TooManyTags {
                    message: format!("A resource has at most {MAX_TAGS} tags, and would have {n}."),
                    resource: arn.to_string(),
                }),
            }
        })
        .await
    }

    /// `UntagResource`.
    pub(super) async fn untag_resource(&self, request: Request<Body>) -> Result<Value> {
        let call: TagResource = self.call(request).await?;
        let mut validation = Validation::new();
        let arn = self.resource(&mut validation, &call);
        if let Some(keys) = validation.required(&call.tag_keys, "tagKeys")
            && keys.len() > MAX_IN_CALL
        {
            let shown = format!("[{} keys]", keys.len());
            validation.violation(shown, "tagKeys", format_args!("Member must have length less than or equal to {MAX_IN_CALL}"));
        }
        validation.finish().map_err(Error::InvalidRequest)?;
        let keys = call.tag_keys.as_deref().unwrap_or_default();
        self.change_tags(arn, |tags| {
            tags.0.retain(|key, _| !keys.contains(key));
            Ok(())
        })
        .await
    }

    /// `ListTagsForResource`: all on one page.
    pub(super) async fn list_tags_for_resource(&self, request: Request<Body>) -> Result<Value> {
        let call: TagResource = self.call(request).await?;
        let mut validation = Validation::new();
        let arn = self.resource(&mut validation, &call);
        validation.finish().map_err(Error::InvalidRequest)?;
        let tags = self.sampling.tags(arn).or_else(|| self.groups.tags(arn));
        let tags = tags.ok_or_else(|| no_resource(arn))??;
        Ok(json!({ "Tags": tags.shown() }))
    }

    async fn change_tags(&self, arn: &str, change: impl FnOnce(&mut Tags) -> Result<()>) -> Result<Value> {
        let now_nanos = self.clock.now_nanos();
        let changed = match self.groups.tags(arn).is_some() {
            true => self.groups.change_tags(arn, now_nanos, change).await,
            false => self.sampling.change_tags(arn, now_nanos, change).await,
        };
        changed.ok_or_else(|| no_resource(arn))??;
        Ok(json!({}))
    }
}
