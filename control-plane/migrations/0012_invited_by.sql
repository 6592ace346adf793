-- Who invited a user, as the owner of a team, and may have chosen their password. Empty: nobody, or it was chosen anew since.
alter table principals add column invited_by TEXT not null default '';
